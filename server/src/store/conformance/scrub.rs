//! What a scrub sees and marks, and what follows from a mark.

use super::*;

const DAY: u64 = 24 * 60 * 60 * 1000;

async fn mark(store: &dyn Store, session: &Session, pack: u8) -> bool {
    let pack = PackId([pack; 32]);
    store.mark_pack(session.account, pack, true, NOW).await.unwrap()
}

async fn place(store: &dyn Store, session: &Session, chunk: u8) -> u8 {
    let places = store.locate(session.account, vec![ChunkId([chunk; 32])]).await;
    places.unwrap()[0].unwrap().pack.0[0]
}

fn missing(chunks: &[u8]) -> Refusal {
    Refusal::ChunksMissing(chunks.iter().map(|id| ChunkId([*id; 32])).collect())
}

pub(in crate::store) async fn a_scrub_sees_every_record_and_every_pack_that_holds_chunks(
    store: Arc<dyn Store>,
) {
    let mut session = Session::first(&*store, 1).await;
    let mut appended = Vec::new();
    for fill in 1..=3 {
        appended.push(session.append(&*store, fill).await);
    }
    let other = Session::first(&*store, 2).await;
    other.pack(&*store, 9, &[10]).await;
    let rows = |from, max| store.record_rows(session.account, from, max);
    for (found, sent) in rows(1, usize::MAX).await.unwrap().iter().zip(&appended) {
        assert_eq!((found.seq, found.epoch), (sent.header.seq, 1));
        assert_eq!((found.hash, &found.sealed[..]), (sent.hash, &sent.sealed[..]));
    }
    assert_eq!(rows(1, usize::MAX).await.unwrap().len(), 3);
    assert_eq!(rows(2, 1).await.unwrap()[0].seq, 2);
    assert_eq!(rows(4, 1).await.unwrap(), []);
    session.pack(&*store, 3, &[30, 31]).await;
    session.pack(&*store, 2, &[20]).await;
    // Nothing of this one lies in it: 20 keeps its first place.
    session.pack(&*store, 4, &[20]).await;
    let above = async |after: Option<u8>, most| {
        let after = after.map(|pack| PackId([pack; 32]));
        let found = store.packs_above(session.account, after, most).await.unwrap();
        found.iter().map(|pack| pack.0[0]).collect::<Vec<_>>()
    };
    assert_eq!(above(None, 9).await, [2, 3]);
    assert_eq!(above(None, 1).await, [2]);
    assert_eq!(above(Some(2), 9).await, [3]);
    let row = |pack| store.pack_row(session.account, PackId([pack; 32]));
    let entry = |id, offset| ChunkEntry {
        id: ChunkId([id; 32]),
        offset,
        len: 300,
    };
    let found = PackRow {
        bytes: 678,
        damaged: false,
        chunks: vec![entry(30, 42), entry(31, 378)],
    };
    assert_eq!(row(3).await.unwrap(), Some(found));
    assert_eq!(row(4).await.unwrap(), None);
    let knows = |pack| store.knows_pack(session.account, PackId([pack; 32]));
    assert!(knows(4).await.unwrap() && !knows(9).await.unwrap());
}

pub(in crate::store) async fn a_scrub_sees_replaced_records_and_every_version_of_the_files(
    store: Arc<dyn Store>,
) {
    let mut session = Session::first(&*store, 1).await;
    let mut replaced = Vec::new();
    for epoch in 2..5 {
        let last = session.next(u8::try_from(epoch).unwrap());
        store.append(last.clone()).await.unwrap();
        replaced.push(last);
        let next = claim(1, u8::try_from(epoch).unwrap() + 10, epoch - 1, epoch);
        let head = session.head;
        session = Session::open(&*store, 1, next).await;
        session.head = head;
    }
    session.append(&*store, 9).await;
    let (mut after, mut found) = ((0, i64::MIN), Vec::new());
    while let Some((place, row)) = store.replaced_row(session.account, after).await.unwrap() {
        after = (row.seq, place);
        found.push((row.seq, row.epoch, row.hash, row.sealed));
    }
    let sent = replaced.iter().map(|sent| {
        let header = &sent.header;
        (header.seq, header.epoch, sent.hash, sent.sealed.to_vec())
    });
    assert_eq!(found, sent.collect::<Vec<_>>());
    let mut sent = Vec::new();
    for fill in [1, 2, 1] {
        let files = session.files(fill, 400, NOW);
        sent.push(files.sealed.to_vec());
        store.put_files(files).await.unwrap();
    }
    let (mut after, mut found) = (i64::MIN, Vec::new());
    while let Some((version, sealed)) = store.files_row(session.account, after).await.unwrap() {
        after = version;
        found.push(sealed);
    }
    assert_eq!(found, sent);
    let other = Session::first(&*store, 2).await;
    assert_eq!(store.files_row(other.account, i64::MIN).await.unwrap(), None);
    let none = store.replaced_row(other.account, (0, i64::MIN)).await.unwrap();
    assert_eq!(none, None);
}

pub(in crate::store) async fn what_lies_in_a_damaged_pack_has_to_come_again_before_a_snapshot_rests_on_it(
    store: Arc<dyn Store>,
) {
    let mut session = Session::first(&*store, 1).await;
    session.append(&*store, 1).await;
    session.pack(&*store, 1, &[10, 11]).await;
    session.pack(&*store, 2, &[20]).await;
    let first = session.commit(1, None, &[10, 20], &[]);
    store.commit_snapshot(first).await.unwrap();
    assert!(mark(&*store, &session, 1).await);
    let account = session.account;
    assert_eq!(store.damaged_packs(account).await.unwrap(), [PackId([1; 32])]);
    // Added or inherited; what is not needed is not asked for.
    let added = store.commit_snapshot(session.commit(2, None, &[11, 20], &[]));
    assert_eq!(refusal(added.await), missing(&[11]));
    let inherited = store.commit_snapshot(session.commit(2, Some(1), &[], &[]));
    assert_eq!(refusal(inherited.await), missing(&[10]));
    let without = store.commit_snapshot(session.commit(2, Some(1), &[], &[10]));
    without.await.unwrap();
    // Another pack brings them: they move there, and those of sound packs do not.
    session.pack_at(&*store, 3, &[20, 11, 10], later(1)).await;
    assert_eq!(place(&*store, &session, 10).await, 3);
    assert_eq!(place(&*store, &session, 11).await, 3);
    assert_eq!(place(&*store, &session, 20).await, 2);
    let places = store.locate(account, vec![ChunkId([10; 32])]).await.unwrap();
    assert_eq!(places[0].map(|place| place.offset), Some(714));
    let healed = store.commit_snapshot(session.commit(3, Some(1), &[11], &[]));
    healed.await.unwrap();
}

pub(in crate::store) async fn a_damaged_pack_that_comes_again_is_sound(store: Arc<dyn Store>) {
    let mut session = Session::first(&*store, 1).await;
    session.append(&*store, 1).await;
    for again in [true, false] {
        session.pack(&*store, 1, &[10]).await;
        assert!(mark(&*store, &session, 1).await);
        if again {
            session.pack(&*store, 1, &[10]).await;
        } else {
            // Or a scrub finds that it is.
            let pack = PackId([1; 32]);
            assert!(store.mark_pack(session.account, pack, false, NOW).await.unwrap());
        }
        assert_eq!(store.damaged_packs(session.account).await.unwrap(), []);
    }
    let commit = session.commit(1, None, &[10], &[]);
    store.commit_snapshot(commit).await.unwrap();
}

pub(in crate::store) async fn a_damaged_pack_is_not_rewritten_and_goes_when_its_chunks_left_it(
    store: Arc<dyn Store>,
) {
    let session = Session::first(&*store, 1).await;
    session.pack(&*store, 1, &[10]).await;
    session.pack(&*store, 2, &[20]).await;
    mark(&*store, &session, 1).await;
    let late = later(DAY + 1);
    let loads = store.pack_loads(session.account, late).await.unwrap();
    assert_eq!(loads.iter().map(|load| load.pack.0[0]).collect::<Vec<_>>(), [2]);
    assert_eq!(store.begin_removals(session.account, late).await.unwrap(), []);
    session.pack_at(&*store, 3, &[10], late).await;
    assert_eq!(store.begin_removals(session.account, late).await.unwrap(), []);
    let later = later(2 * DAY + 2);
    let gone = store.begin_removals(session.account, later).await.unwrap();
    assert_eq!(gone, [PackId([1; 32])]);
}

pub(in crate::store) async fn a_mark_is_made_on_packs_that_hold_chunks_alone(store: Arc<dyn Store>) {
    let session = Session::first(&*store, 1).await;
    let other = Session::first(&*store, 2).await;
    session.pack(&*store, 1, &[10]).await;
    session.pack(&*store, 2, &[10]).await;
    assert!(!mark(&*store, &session, 2).await);
    assert!(!mark(&*store, &session, 3).await);
    assert!(!mark(&*store, &other, 1).await);
    assert_eq!(store.damaged_packs(session.account).await.unwrap(), []);
    assert!(mark(&*store, &session, 1).await);
    assert_eq!(store.damaged_packs(other.account).await.unwrap(), []);
}

pub(in crate::store) async fn each_account_is_taken_on_for_a_scrub_once_in_its_time(store: Arc<dyn Store>) {
    let mut accounts = Vec::new();
    for node in 1..=3 {
        accounts.push(Session::first(&*store, node).await.account);
    }
    let take = async |now: u64| {
        let before = UnixMillis(now.saturating_sub(100));
        store.begin_scrub(before, UnixMillis(now)).await.unwrap()
    };
    let mut taken = vec![
        take(1000).await.unwrap(),
        take(1001).await.unwrap(),
        take(1002).await.unwrap(),
    ];
    assert_eq!(take(1003).await, None);
    // The one whose turn was longest ago comes first.
    assert_eq!(take(1101).await, Some(taken[0]));
    assert_eq!(take(1101).await, None);
    assert_eq!(take(1200).await, Some(taken[1]));
    taken.sort_by_key(|account| account.0);
    assert_eq!(taken, accounts);
}
