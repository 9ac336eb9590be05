//! Chunks and the snapshots that need them (I8).

use super::*;

pub(in crate::store) async fn chunks_are_located_in_the_order_asked_for(store: Arc<dyn Store>) {
    let session = Session::first(&*store, 1).await;
    session.pack(&*store, 1, &[10, 20]).await;
    session.pack(&*store, 2, &[30]).await;
    let ids = [30, 99, 10, 20, 10].map(|id| ChunkId([id; 32])).to_vec();
    let place = |pack, offset| {
        Some(ChunkPlace {
            pack: PackId([pack; 32]),
            offset,
            len: 300,
        })
    };
    let places = store.locate(session.account, ids).await.unwrap();
    assert_eq!(
        places,
        [place(2, 42), None, place(1, 42), place(1, 378), place(1, 42)]
    );
    assert_eq!(store.locate(session.account, vec![]).await.unwrap(), []);
}

pub(in crate::store) async fn a_chunk_keeps_its_first_place(store: Arc<dyn Store>) {
    let session = Session::first(&*store, 1).await;
    session.pack(&*store, 1, &[10]).await;
    session.pack(&*store, 2, &[20, 10]).await;
    session.pack(&*store, 1, &[10]).await;
    let ids = vec![ChunkId([10; 32]), ChunkId([20; 32])];
    let places = store.locate(session.account, ids).await.unwrap();
    let packs: Vec<_> = places.into_iter().map(|place| place.unwrap().pack).collect();
    assert_eq!(packs, [PackId([1; 32]), PackId([2; 32])]);
}

pub(in crate::store) async fn a_complete_snapshot_is_listed_with_its_size(store: Arc<dyn Store>) {
    let mut session = Session::first(&*store, 1).await;
    session.append(&*store, 1).await;
    session.pack(&*store, 1, &[10, 20, 30]).await;
    let commit = session.commit(1, None, &[10, 30], &[]);
    let info = store.commit_snapshot(commit.clone()).await.unwrap();
    let want = SnapshotInfo {
        snapshot: SnapshotId([1; 16]),
        base_seq: 1,
        base_hash: session.head.hash,
        committed_at: NOW,
        bytes: 600,
    };
    assert_eq!(info, want);
    assert_eq!(store.snapshots(session.account).await.unwrap(), [want]);
    assert_eq!(session.state(&*store).await.snapshot, Some(want));
    let manifest = async |id| {
        store
            .manifest(session.account, SnapshotId([id; 16]))
            .await
            .unwrap()
    };
    assert_eq!(manifest(1).await, Some(commit.commit.manifest));
    assert_eq!(manifest(2).await, None);
}

pub(in crate::store) async fn a_snapshot_that_lacks_chunks_names_them_and_is_not_there(
    store: Arc<dyn Store>,
) {
    let mut session = Session::first(&*store, 1).await;
    session.append(&*store, 1).await;
    session.pack(&*store, 1, &[20]).await;
    let refused = store
        .commit_snapshot(session.commit(1, None, &[10, 20, 30], &[]))
        .await;
    let missing = vec![ChunkId([10; 32]), ChunkId([30; 32])];
    assert_eq!(refusal(refused), Refusal::ChunksMissing(missing));
    assert_eq!(store.snapshots(session.account).await.unwrap(), []);
    session.pack(&*store, 2, &[10, 30]).await;
    let info = store
        .commit_snapshot(session.commit(1, None, &[10, 20, 30], &[]))
        .await
        .unwrap();
    assert_eq!(info.bytes, 900);
}

pub(in crate::store) async fn only_so_many_missing_chunks_are_named(store: Arc<dyn Store>) {
    let mut session = Session::first(&*store, 1).await;
    session.append(&*store, 1).await;
    let mut commit = session.commit(1, None, &[], &[]);
    commit.commit.added = (0..40_000_u32)
        .map(|number| {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&number.to_be_bytes());
            ChunkId(id)
        })
        .collect();
    let want = Refusal::ChunksMissing(commit.commit.added[..MISSING_MAX].to_vec());
    assert_eq!(refusal(store.commit_snapshot(commit).await), want);
}

pub(in crate::store) async fn a_snapshot_rests_on_a_record_of_the_log(store: Arc<dyn Store>) {
    let mut session = Session::first(&*store, 1).await;
    session.pack(&*store, 1, &[10]).await;
    let early = Session {
        head: Head {
            epoch: 1,
            seq: 1,
            hash: RecordHash([5; 32]),
        },
        ..session.clone()
    };
    let not_on_chain = |session: &Session| Refusal::NotOnChain {
        seq: session.head.seq,
        hash: session.head.hash,
    };
    let refused = store.commit_snapshot(early.commit(1, None, &[10], &[])).await;
    assert_eq!(refusal(refused), not_on_chain(&early));
    session.append(&*store, 1).await;
    let refused = store.commit_snapshot(early.commit(1, None, &[10], &[])).await;
    assert_eq!(refusal(refused), not_on_chain(&early));
    let mut elsewhere = session.commit(1, None, &[10], &[]);
    elsewhere.header.timeline = TimelineId([9; 16]);
    assert_eq!(
        refusal(store.commit_snapshot(elsewhere).await),
        Refusal::WrongTimeline
    );
    let orphan = session.commit(1, Some(7), &[10], &[]);
    assert_eq!(refusal(store.commit_snapshot(orphan).await), Refusal::NotFound);
    assert_eq!(store.snapshots(session.account).await.unwrap(), []);
}

pub(in crate::store) async fn a_fenced_run_commits_no_snapshot(store: Arc<dyn Store>) {
    let mut old = Session::first(&*store, 1).await;
    old.append(&*store, 1).await;
    old.pack(&*store, 1, &[10]).await;
    Session::open(&*store, 1, takeover(claim(2, 2, 1, 2))).await;
    let refused = store.commit_snapshot(old.commit(1, None, &[10], &[])).await;
    assert!(matches!(refusal(refused), Refusal::Fenced { epoch: 2, .. }));
}

pub(in crate::store) async fn a_commit_as_a_difference_has_the_parents_chunks_and_its_own(
    store: Arc<dyn Store>,
) {
    let mut session = Session::first(&*store, 1).await;
    session.append(&*store, 1).await;
    session.pack(&*store, 1, &[10, 20, 30, 40]).await;
    let bytes = async |commit| store.commit_snapshot(commit).await.unwrap().bytes;
    assert_eq!(bytes(session.commit(1, None, &[10, 20, 30], &[])).await, 900);
    assert_eq!(bytes(session.commit(2, Some(1), &[40], &[10, 20])).await, 600);
    assert_eq!(bytes(session.commit(3, Some(2), &[10], &[])).await, 900);
    // 3 is {10, 30, 40}: taking these away leaves nothing, and the others are not there to be taken.
    assert_eq!(bytes(session.commit(4, Some(3), &[], &[10, 30, 40])).await, 0);
    let refused = store
        .commit_snapshot(session.commit(5, Some(3), &[], &[20]))
        .await;
    assert!(matches!(refusal(refused), Refusal::BadCommit(_)));
}

pub(in crate::store) async fn a_commit_that_is_no_difference_to_its_parent_is_refused(store: Arc<dyn Store>) {
    let mut session = Session::first(&*store, 1).await;
    session.append(&*store, 1).await;
    session.pack(&*store, 1, &[10, 20]).await;
    store
        .commit_snapshot(session.commit(1, None, &[10], &[]))
        .await
        .unwrap();
    let has_it = session.commit(2, Some(1), &[10], &[]);
    assert!(matches!(
        refusal(store.commit_snapshot(has_it).await),
        Refusal::BadCommit(_)
    ));
    let lacks_it = session.commit(2, Some(1), &[], &[20]);
    assert!(matches!(
        refusal(store.commit_snapshot(lacks_it).await),
        Refusal::BadCommit(_)
    ));
    assert_eq!(store.snapshots(session.account).await.unwrap().len(), 1);
}

pub(in crate::store) async fn the_same_commit_again_succeeds_and_another_of_its_name_does_not(
    store: Arc<dyn Store>,
) {
    let mut session = Session::first(&*store, 1).await;
    session.append(&*store, 1).await;
    session.pack(&*store, 1, &[10]).await;
    let commit = session.commit(1, None, &[10], &[]);
    let info = store.commit_snapshot(commit.clone()).await.unwrap();
    let again = Commit {
        now: later(5),
        ..commit.clone()
    };
    assert_eq!(store.commit_snapshot(again).await.unwrap(), info);
    let mut other = commit;
    *other.commit.manifest.last_mut().unwrap() ^= 1;
    assert!(matches!(
        refusal(store.commit_snapshot(other).await),
        Refusal::BadCommit(_)
    ));
    assert_eq!(store.snapshots(session.account).await.unwrap(), [info]);
}

pub(in crate::store) async fn the_highest_base_is_listed_first(store: Arc<dyn Store>) {
    let mut session = Session::first(&*store, 1).await;
    session.append(&*store, 1).await;
    session.pack(&*store, 1, &[10]).await;
    let low = session.clone();
    session.append(&*store, 2).await;
    for commit in [
        session.commit(1, None, &[10], &[]),
        session.commit(2, None, &[10], &[]),
        low.commit(3, None, &[10], &[]),
    ] {
        store.commit_snapshot(commit).await.unwrap();
    }
    let listed = store.snapshots(session.account).await.unwrap();
    let names: Vec<_> = listed.iter().map(|info| info.snapshot.0[0]).collect();
    assert_eq!(names, [2, 1, 3]);
    assert_eq!(session.state(&*store).await.snapshot, listed.first().copied());
}

pub(in crate::store) async fn a_snapshot_whose_base_was_replaced_is_listed_no_more(store: Arc<dyn Store>) {
    let mut old = Session::first(&*store, 1).await;
    let first = old.append(&*store, 1).await;
    old.pack(&*store, 1, &[10]).await;
    let kept = store
        .commit_snapshot(old.commit(1, None, &[10], &[]))
        .await
        .unwrap();
    old.append(&*store, 2).await;
    store
        .commit_snapshot(old.commit(2, None, &[10], &[]))
        .await
        .unwrap();
    let new = Session::open(&*store, 1, claim(1, 2, 1, 2)).await;
    store
        .append(new.record(2, first.hash, 3, RECORD_MIN))
        .await
        .unwrap();
    assert_eq!(store.snapshots(new.account).await.unwrap(), [kept]);
    assert_eq!(new.state(&*store).await.snapshot, Some(kept));
}
