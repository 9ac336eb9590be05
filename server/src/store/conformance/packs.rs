//! Chunks that nothing needs, and packs that come, are gathered, and go.

use super::*;

const DAY: u64 = 24 * 60 * 60 * 1000;

async fn places(store: &dyn Store, session: &Session, chunks: &[u8]) -> Vec<Option<u8>> {
    let ids = chunks.iter().map(|id| ChunkId([*id; 32])).collect();
    let places = store.locate(session.account, ids).await.unwrap();
    places
        .into_iter()
        .map(|place| place.map(|place| place.pack.0[0]))
        .collect()
}

async fn drop_chunks(store: &dyn Store, session: &Session, now: UnixMillis) {
    while store.drop_chunks(session.account, now).await.unwrap() {}
}

fn arrival(session: &Session, pack: u8, now: UnixMillis) -> PackArrival {
    PackArrival {
        judged: true,
        account: session.account,
        pack: PackId([pack; 32]),
        bytes: 1000,
        now,
    }
}

pub(in crate::store) async fn a_chunk_that_no_snapshot_needs_goes_a_day_after_its_pack_arrived(
    store: Arc<dyn Store>,
) {
    let mut session = Session::first(&*store, 1).await;
    session.append(&*store, 1).await;
    session.pack(&*store, 1, &[10, 20, 30]).await;
    store
        .commit_snapshot(session.commit(1, None, &[20], &[]))
        .await
        .unwrap();
    drop_chunks(&*store, &session, later(DAY)).await;
    assert_eq!(places(&*store, &session, &[10, 20, 30]).await, [Some(1); 3]);
    drop_chunks(&*store, &session, later(DAY + 1)).await;
    assert_eq!(
        places(&*store, &session, &[10, 20, 30]).await,
        [None, Some(1), None]
    );
    let refused = store
        .commit_snapshot(session.commit(2, Some(1), &[30], &[]))
        .await;
    assert_eq!(refusal(refused), Refusal::ChunksMissing(vec![ChunkId([30; 32])]));
}

pub(in crate::store) async fn a_chunk_that_arrived_again_stays_a_day_longer_in_whichever_pack(
    store: Arc<dyn Store>,
) {
    let session = Session::first(&*store, 1).await;
    for pack in [1, 2, 3] {
        session.pack(&*store, pack, &[10 * pack]).await;
    }
    session.pack_at(&*store, 1, &[10], later(DAY)).await;
    session.pack_at(&*store, 4, &[20], later(DAY)).await;
    drop_chunks(&*store, &session, later(2 * DAY)).await;
    assert_eq!(
        places(&*store, &session, &[10, 20, 30]).await,
        [Some(1), Some(2), None]
    );
    drop_chunks(&*store, &session, later(2 * DAY + 1)).await;
    assert_eq!(places(&*store, &session, &[10, 20]).await, [None, None]);
}

pub(in crate::store) async fn a_pack_must_be_registered_before_it_is_indexed(store: Arc<dyn Store>) {
    let session = Session::first(&*store, 1).await;
    let index = PackIndex {
        account: session.account,
        pack: PackId([1; 32]),
        chunks: vec![],
        now: NOW,
    };
    assert!(matches!(
        store.index_pack(index).await,
        Err(StoreError::Unavailable(_))
    ));
}

pub(in crate::store) async fn a_pack_without_chunks_is_removed_a_day_after_it_was_touched(
    store: Arc<dyn Store>,
) {
    let session = Session::first(&*store, 1).await;
    let begin = async |now| store.begin_removals(session.account, now).await.unwrap();
    // Registered, and then its sender died.
    store.register_pack(arrival(&session, 1, NOW)).await.unwrap();
    session.pack(&*store, 2, &[20]).await;
    assert_eq!(begin(later(DAY)).await, []);
    store
        .register_pack(arrival(&session, 1, later(DAY)))
        .await
        .unwrap();
    assert_eq!(begin(later(DAY + 1)).await, []);
    assert_eq!(begin(later(2 * DAY + 1)).await, [PackId([1; 32])]);
    // 2 loses its chunk only now: whoever located it may still fetch it.
    drop_chunks(&*store, &session, later(2 * DAY + 1)).await;
    assert_eq!(begin(later(3 * DAY + 1)).await, [PackId([1; 32])]);
    let both = begin(later(3 * DAY + 2)).await;
    assert_eq!(both, [PackId([1; 32]), PackId([2; 32])]);
}

async fn hold(store: &dyn Store, session: &Session, pack: PackId) -> Option<Box<dyn Removal>> {
    store.hold_removal(session.account, pack).await.unwrap()
}

pub(in crate::store) async fn a_pack_that_is_being_removed_is_refused_until_it_is_gone(
    store: Arc<dyn Store>,
) {
    let session = Session::first(&*store, 1).await;
    store.register_pack(arrival(&session, 1, NOW)).await.unwrap();
    let late = later(2 * DAY);
    let pack = PackId([1; 32]);
    // One that is in use is not forgotten by mistake.
    assert!(hold(&*store, &session, pack).await.is_none());
    assert_eq!(store.begin_removals(session.account, late).await.unwrap(), [pack]);
    let away = |outcome| matches!(outcome, Err(StoreError::Unavailable(_)));
    assert!(away(store.register_pack(arrival(&session, 1, late)).await));
    let index = PackIndex {
        account: session.account,
        pack,
        chunks: vec![],
        now: late,
    };
    assert!(away(store.index_pack(index.clone()).await));
    let moved = Move {
        account: session.account,
        from: vec![],
        to: pack,
        chunks: vec![],
        now: late,
    };
    assert!(away(store.move_chunks(moved).await));
    // An earlier process left the mark; it is found.
    assert_eq!(store.begin_removals(session.account, late).await.unwrap(), [pack]);
    let removal = hold(&*store, &session, pack).await.unwrap();
    // Nor while its file is going.
    assert!(away(store.register_pack(arrival(&session, 1, late)).await));
    removal.end().await.unwrap();
    assert!(hold(&*store, &session, pack).await.is_none());
    assert_eq!(store.begin_removals(session.account, late).await.unwrap(), []);
    store.register_pack(arrival(&session, 1, late)).await.unwrap();
    store.index_pack(index).await.unwrap();
}

pub(in crate::store) async fn moved_chunks_are_located_in_their_new_pack_and_the_old_one_stays_a_day(
    store: Arc<dyn Store>,
) {
    let mut session = Session::first(&*store, 1).await;
    session.append(&*store, 1).await;
    session.pack(&*store, 1, &[10, 20]).await;
    session.pack(&*store, 2, &[30]).await;
    session.pack(&*store, 3, &[40]).await;
    store
        .commit_snapshot(session.commit(1, None, &[10, 20, 30, 40], &[]))
        .await
        .unwrap();
    let late = later(2 * DAY);
    let loads = store.pack_loads(session.account, late).await.unwrap();
    let load = |pack, chunks: u64| PackLoad {
        pack: PackId([pack; 32]),
        bytes: 6 + 336 * chunks,
        live: 336 * chunks,
    };
    assert_eq!(loads, [load(2, 1), load(3, 1), load(1, 2)]);
    assert_eq!(
        store.chunks_in(session.account, PackId([2; 32])).await.unwrap(),
        [ChunkId([30; 32])]
    );
    let entry = |id, offset| ChunkEntry {
        id: ChunkId([id; 32]),
        offset,
        len: 300,
    };
    store.register_pack(arrival(&session, 9, late)).await.unwrap();
    let moved = Move {
        account: session.account,
        from: vec![PackId([1; 32]), PackId([2; 32])],
        to: PackId([9; 32]),
        // 40 lies in none of these packs.
        chunks: vec![entry(10, 42), entry(20, 378), entry(30, 714), entry(40, 1050)],
        now: late,
    };
    store.move_chunks(moved).await.unwrap();
    assert_eq!(
        places(&*store, &session, &[10, 20, 30, 40]).await,
        [Some(9), Some(9), Some(9), Some(3)]
    );
    let place = store
        .locate(session.account, vec![ChunkId([30; 32])])
        .await
        .unwrap()[0];
    assert_eq!(place.map(|place| (place.offset, place.len)), Some((714, 300)));
    assert_eq!(session.state(&*store).await.snapshot.unwrap().bytes, 1200);
    let begin = async |now| store.begin_removals(session.account, now).await.unwrap();
    assert_eq!(begin(later(3 * DAY)).await, []);
    assert_eq!(
        begin(later(3 * DAY + 1)).await,
        [PackId([1; 32]), PackId([2; 32])]
    );
    // What was just gathered is left alone for as long.
    let loads = store.pack_loads(session.account, later(3 * DAY)).await.unwrap();
    assert_eq!(loads, [load(3, 1)]);
}

pub(in crate::store) async fn what_is_registered_marked_or_moved_is_an_accounts_own(store: Arc<dyn Store>) {
    let one = Session::first(&*store, 1).await;
    let other = Session::first(&*store, 2).await;
    one.pack(&*store, 1, &[10]).await;
    other.pack(&*store, 1, &[10]).await;
    let late = later(2 * DAY);
    drop_chunks(&*store, &one, late).await;
    assert_eq!(places(&*store, &one, &[10]).await, [None]);
    assert_eq!(places(&*store, &other, &[10]).await, [Some(1)]);
    other.pack_at(&*store, 2, &[20], late).await;
    let moved = Move {
        account: one.account,
        from: vec![PackId([1; 32])],
        to: PackId([2; 32]),
        chunks: vec![],
        now: late,
    };
    assert!(matches!(
        store.move_chunks(moved).await,
        Err(StoreError::Unavailable(_))
    ));
    assert_eq!(
        store.begin_removals(other.account, later(9 * DAY)).await.unwrap(),
        []
    );
}
