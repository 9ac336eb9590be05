//! How much room each account has, and what its use is.

use super::{
    tenants::{DAY, files, recounted, tight},
    *,
};
use QuotaLevel::{Exhausted, Near, Overdraft};
use backstop_protocol::quota::QuotaLevel;
use proptest::prelude::*;

fn room(bytes: u64) -> Terms {
    Terms {
        quota: QuotaPolicy {
            bytes: Some(bytes),
            ..QuotaPolicy::default()
        },
        ..Terms::default()
    }
}

pub(in crate::store) async fn use_is_what_a_recount_finds_whatever_happens(
    open: impl AsyncFn(Terms) -> (Arc<dyn Store>, Office),
) {
    let (store, mut office) = open(Terms::default()).await;
    let store = &*store;
    let mut one = Session::first(store, 1).await;
    let mut other = Session::first(store, 2).await;
    other.append(store, 1).await;
    for fill in 1..=3 {
        one.append(store, fill).await;
    }
    let least = u64::try_from(RECORD_MIN).unwrap();
    assert_eq!(recounted(&mut office, &one).await, 3 * least);
    // A record takes the place of the last one.
    let before = one.head;
    let second = Session::open(store, 1, claim(1, 2, 1, 2)).await;
    let log = one.log(store).await;
    let replacing = Append {
        writer: second.writer,
        ..second.record(before.seq, record_hash(&log[1]), 9, RECORD_MIN + 50)
    };
    store.append(replacing.clone()).await.unwrap();
    let mut one = Session { ..second };
    one.assume(&replacing);
    assert_eq!(recounted(&mut office, &one).await, 4 * least + 50);
    // Packs, twice the same, and one that is never named.
    one.pack(store, 1, &[10, 11]).await;
    one.pack(store, 1, &[10, 11]).await;
    one.pack(store, 2, &[12]).await;
    let with_packs = recounted(&mut office, &one).await;
    assert_eq!(with_packs, 4 * least + 50 + 2 * 6 + 3 * 336);
    store
        .commit_snapshot(one.commit(1, None, &[10], &[]))
        .await
        .unwrap();
    store
        .commit_snapshot(one.commit(1, None, &[10], &[]))
        .await
        .unwrap();
    for (fill, len) in [(1, 400), (2, 500), (2, 500)] {
        store.put_files(files(&one, fill, len)).await.unwrap();
    }
    let manifest = u64::try_from(one.commit(1, None, &[], &[]).commit.manifest.len()).unwrap();
    assert_eq!(recounted(&mut office, &one).await, with_packs + manifest + 900);
    // A refused append and a refused commit count for nothing.
    assert!(
        store
            .append(one.record(9, RecordHash([1; 32]), 1, 999))
            .await
            .is_err()
    );
    assert!(
        store
            .commit_snapshot(one.commit(2, None, &[99], &[]))
            .await
            .is_err()
    );
    assert_eq!(recounted(&mut office, &one).await, with_packs + manifest + 900);
    // Everything goes that may go.
    one.append(store, 20).await;
    store
        .commit_snapshot(one.commit(3, None, &[10], &[]))
        .await
        .unwrap();
    one.append(store, 21).await;
    let policy = HistoryPolicy {
        snapshots: 1,
        days: 1,
    };
    let now = later(9 * DAY);
    while store.drop_history(one.account, &policy, now).await.unwrap() {
        recounted(&mut office, &one).await;
    }
    store.drop_old_files(one.account, now).await.unwrap();
    while store.drop_chunks(one.account, now).await.unwrap() {}
    let much_later = later(12 * DAY);
    for pack in store.begin_removals(one.account, much_later).await.unwrap() {
        let removal = store.hold_removal(one.account, pack).await.unwrap().unwrap();
        removal.end().await.unwrap();
    }
    let left = 2 * least + manifest + 500 + 6 + 2 * 336;
    assert_eq!(recounted(&mut office, &one).await, left);
    assert_eq!(recounted(&mut office, &other).await, least);
}

pub(in crate::store) async fn a_pack_is_refused_before_a_record_and_neither_changes_anything(
    open: impl AsyncFn(Terms) -> (Arc<dyn Store>, Office),
) {
    let (store, mut office) = open(tight()).await;
    let mut session = Session::first(&*store, 1).await;
    let mut levels = Vec::new();
    for fill in 1..=6 {
        let appended = store.append(session.next(fill)).await.unwrap();
        session.head = appended.head;
        levels.push(appended.quota.map(|quota| quota.level));
        if fill == 4 {
            let arrival = PackArrival {
                account: session.account,
                pack: PackId([1; 32]),
                bytes: 342,
                judged: true,
                now: NOW,
            };
            let refused = refusal(store.register_pack(arrival).await);
            assert!(matches!(refused, Refusal::QuotaExceeded { bytes: 342, .. }));
            let refused = refusal(store.put_files(files(&session, 1, 400)).await);
            assert!(matches!(refused, Refusal::QuotaExceeded { bytes: 400, .. }));
        }
    }
    let want = [
        None,
        Some(Near),
        Some(Near),
        Some(Overdraft),
        Some(Overdraft),
        Some(Exhausted),
    ];
    assert_eq!(levels, want);
    let before = session.state(&*store).await;
    let refused = refusal(store.append(session.next(7)).await);
    assert!(matches!(refused, Refusal::QuotaExceeded { .. }));
    assert_eq!(session.state(&*store).await, before);
    assert_eq!(session.log(&*store).await.len(), 6);
    recounted(&mut office, &session).await;
    // Another node has its own room.
    Session::first(&*store, 2).await.append(&*store, 1).await;
}

pub(in crate::store) async fn a_full_account_takes_again_what_it_has(
    open: impl AsyncFn(Terms) -> (Arc<dyn Store>, Office),
) {
    let (store, _) = open(tight()).await;
    let mut session = Session::first(&*store, 1).await;
    session.pack(&*store, 1, &[10]).await;
    let mut appended = Vec::new();
    while let Ok(done) = store.append(session.next(1)).await {
        appended.push(session.next(1));
        session.head = done.head;
    }
    assert!(!appended.is_empty());
    for append in &appended {
        assert_eq!(store.append(append.clone()).await.unwrap().head, session.head);
    }
    session.pack(&*store, 1, &[10]).await;
    // A session opens, and reads.
    let again = Session::open(&*store, 1, claim(1, 2, 1, 2)).await;
    assert_eq!(again.log(&*store).await.len(), appended.len());
}

pub(in crate::store) async fn a_node_that_runs_out_of_room_is_asked_for_roll_ups_early(
    open: impl AsyncFn(Terms) -> (Arc<dyn Store>, Office),
) {
    let terms = Terms {
        roll_up: RollUpPolicy {
            records: 8,
            ..RollUpPolicy::default()
        },
        ..tight()
    };
    let (store, _) = open(terms).await;
    let mut session = Session::first(&*store, 1).await;
    let mut asked = Vec::new();
    for fill in 1..=3 {
        let appended = store.append(session.next(fill)).await.unwrap();
        session.head = appended.head;
        asked.push(appended.roll_up);
    }
    assert_eq!(asked, [false, true, true]);
    assert!(session.state(&*store).await.roll_up);
}

pub(in crate::store) async fn a_quota_that_an_operator_raises_counts_at_once(
    open: impl AsyncFn(Terms) -> (Arc<dyn Store>, Office),
) {
    let (store, mut office) = open(tight()).await;
    let mut session = Session::first(&*store, 1).await;
    while let Ok(done) = store.append(session.next(1)).await {
        session.head = done.head;
    }
    office
        .act(&Act::Quota(session.account, Some(UNLIMITED)))
        .await
        .unwrap();
    session.append(&*store, 2).await;
    assert_eq!(session.state(&*store).await.quota, None);
    office.act(&Act::Quota(session.account, Some(100))).await.unwrap();
    assert!(store.append(session.next(3)).await.is_err());
    office.act(&Act::Quota(session.account, None)).await.unwrap();
    assert_eq!(
        session.state(&*store).await.quota.unwrap().level,
        QuotaLevel::Exhausted
    );
    let nobody = office.act(&Act::Quota(AccountId(999), None)).await;
    assert!(nobody.is_err());
}

pub(in crate::store) async fn what_the_server_gathers_itself_is_never_refused_for_want_of_room(
    open: impl AsyncFn(Terms) -> (Arc<dyn Store>, Office),
) {
    let (store, mut office) = open(tight()).await;
    let session = Session::first(&*store, 1).await;
    let arrival = PackArrival {
        account: session.account,
        pack: PackId([1; 32]),
        bytes: 1 << 20,
        judged: false,
        now: NOW,
    };
    store.register_pack(arrival).await.unwrap();
    recounted(&mut office, &session).await;
}

pub(in crate::store) async fn history_yields_as_room_runs_out(
    open: impl AsyncFn(Terms) -> (Arc<dyn Store>, Office),
) {
    let (store, mut office) = open(room(1_000_000)).await;
    let session = Session::first(&*store, 1).await;
    let policy = HistoryPolicy::default();
    let mut kept = Vec::new();
    for (pack, bytes) in [(1, 850_000), (2, 60_000), (3, 60_000)] {
        let arrival = PackArrival {
            account: session.account,
            pack: PackId([pack; 32]),
            bytes,
            judged: true,
            now: NOW,
        };
        store.register_pack(arrival).await.unwrap();
        let HistoryPolicy { snapshots, days } = store.history_policy(session.account, &policy).await.unwrap();
        kept.push((snapshots, days));
    }
    assert_eq!(kept, [(3, 7), (3, 0), (1, 0)]);
    office
        .act(&Act::Quota(session.account, Some(UNLIMITED)))
        .await
        .unwrap();
    assert_eq!(
        store.history_policy(session.account, &policy).await.unwrap(),
        policy
    );
}

/// What a client may do, with how many bytes.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) enum Deed {
    Record(usize),
    Pack(u64),
    Files(usize),
}

pub(in crate::store) fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        (RECORD_MIN..3000).prop_map(Deed::Record),
        (338_u64..4000).prop_map(Deed::Pack),
        (302_usize..2000).prop_map(Deed::Files),
    ];
    proptest::collection::vec(deed, 1..40)
}

/// Whatever a client sends, each thing is taken exactly where a model of the ladder has room for it; what is refused changes
/// nothing; and what the account says it uses is what its rows are.
pub(in crate::store) async fn the_ladder_is_the_models(
    quota: u64,
    deeds: Vec<Deed>,
    open: impl AsyncFn(Terms) -> (Arc<dyn Store>, Office),
) {
    let (store, mut office) = open(room(quota)).await;
    let mut session = Session::first(&*store, 1).await;
    let mut model = 0_u64;
    let (for_records, for_others) = (quota * 12 / 10, quota * 11 / 10);
    for (at, deed) in deeds.into_iter().enumerate() {
        let name = u8::try_from(at + 1).unwrap();
        let (bytes, most, outcome) = match deed {
            Deed::Record(len) => {
                let append = session.record(session.head.seq + 1, session.head.hash, name, len);
                let done = store.append(append).await;
                (len as u64, for_records, done.map(|done| session.head = done.head))
            }
            Deed::Pack(bytes) => {
                let arrival = PackArrival {
                    account: session.account,
                    pack: PackId([name; 32]),
                    bytes,
                    judged: true,
                    now: NOW,
                };
                (bytes, for_others, store.register_pack(arrival).await)
            }
            Deed::Files(len) => {
                let done = store.put_files(files(&session, name, len)).await;
                (len as u64, for_others, done)
            }
        };
        let fits = model + bytes <= most;
        match outcome {
            Ok(()) => assert!(fits, "{deed:?} at {model} of {most}"),
            Err(StoreError::Refused(Refusal::QuotaExceeded { quota, .. })) => {
                assert!(!fits && quota.used == model, "{deed:?} at {model} of {most}");
            }
            Err(other) => panic!("{other:?}"),
        }
        model += if fits { bytes } else { 0 };
        assert_eq!(recounted(&mut office, &session).await, model);
    }
}
