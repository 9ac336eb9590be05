//! When a roll-up is asked for, what a proof holds, and what of a history goes (I8).

use super::*;

/// Longer than the default policy lets a log become without asking.
const LONG: usize = 8 << 20;
const DAY: u64 = 24 * 60 * 60 * 1000;
const POLICY: HistoryPolicy = HistoryPolicy {
    snapshots: 1,
    days: 2,
};

async fn append(store: &dyn Store, session: &mut Session, len: usize, now: UnixMillis) -> Appended {
    let seq = session.head.seq + 1;
    let append = Append {
        now,
        ..session.record(seq, session.head.hash, 1, len)
    };
    let appended = store.append(append).await.unwrap();
    session.head = appended.head;
    appended
}

/// A record, and a snapshot of it that needs these chunks.
async fn rolled_up(store: &dyn Store, session: &mut Session, snapshot: u8, chunks: &[u8], now: UnixMillis) {
    append(store, session, RECORD_MIN, now).await;
    let commit = Commit {
        now,
        ..session.commit(snapshot, None, chunks, &[])
    };
    store.commit_snapshot(commit).await.unwrap();
}

/// Drops all that may go; says in how many steps.
async fn drop_all(store: &dyn Store, account: AccountId, now: UnixMillis) -> usize {
    let mut steps = 0;
    while store.drop_history(account, &POLICY, now).await.unwrap() {
        steps += 1;
    }
    while store.drop_chunks(account, now).await.unwrap() {}
    steps
}

async fn listed(store: &dyn Store, session: &Session) -> Vec<u8> {
    let snapshots = store.snapshots(session.account).await.unwrap();
    snapshots.iter().map(|info| info.snapshot.0[0]).collect()
}

pub(in crate::store) async fn a_long_log_asks_for_a_roll_up_until_a_snapshot_stands_above_it(
    store: Arc<dyn Store>,
) {
    let mut session = Session::first(&*store, 1).await;
    assert!(!append(&*store, &mut session, RECORD_MIN, NOW).await.roll_up);
    assert!(append(&*store, &mut session, LONG, NOW).await.roll_up);
    let base = session.clone();
    assert!(append(&*store, &mut session, RECORD_MIN, NOW).await.roll_up);
    assert!(session.state(&*store).await.roll_up);
    session.pack(&*store, 1, &[10]).await;
    store
        .commit_snapshot(base.commit(1, None, &[10], &[]))
        .await
        .unwrap();
    assert!(!session.state(&*store).await.roll_up);
    assert!(!append(&*store, &mut session, RECORD_MIN, NOW).await.roll_up);
    // The records after the base were counted on.
    assert!(
        append(&*store, &mut session, LONG - 2 * RECORD_MIN, NOW)
            .await
            .roll_up
    );
}

pub(in crate::store) async fn an_old_log_asks_for_a_roll_up_however_short_it_is(store: Arc<dyn Store>) {
    let mut session = Session::first(&*store, 1).await;
    append(&*store, &mut session, RECORD_MIN, NOW).await;
    let soon = append(&*store, &mut session, RECORD_MIN, later(7 * DAY - 1)).await;
    assert!(!soon.roll_up);
    let state = store.account(session.account, later(7 * DAY)).await.unwrap();
    assert!(state.roll_up);
    session.pack(&*store, 1, &[10]).await;
    rolled_up(&*store, &mut session, 1, &[10], later(7 * DAY)).await;
    let state = store.account(session.account, later(99 * DAY)).await.unwrap();
    assert!(!state.roll_up);
}

pub(in crate::store) async fn a_replaced_record_asks_for_nothing_any_more(store: Arc<dyn Store>) {
    let mut old = Session::first(&*store, 1).await;
    let first = old.append(&*store, 1).await;
    assert!(append(&*store, &mut old, LONG, NOW).await.roll_up);
    let new = Session::open(&*store, 1, claim(1, 2, 1, 2)).await;
    let replaced = store
        .append(new.record(2, first.hash, 3, RECORD_MIN))
        .await
        .unwrap();
    assert!(!replaced.roll_up);
}

pub(in crate::store) async fn a_snapshot_that_left_the_chain_counts_for_no_roll_up(store: Arc<dyn Store>) {
    let mut old = Session::first(&*store, 1).await;
    append(&*store, &mut old, LONG, NOW).await;
    let first = old.head;
    old.pack(&*store, 1, &[10]).await;
    rolled_up(&*store, &mut old, 1, &[10], NOW).await;
    assert!(!old.state(&*store).await.roll_up);
    let new = Session::open(&*store, 1, claim(1, 2, 1, 2)).await;
    let replacing = new.record(2, first.hash, 3, RECORD_MIN);
    assert!(store.append(replacing).await.unwrap().roll_up);
}

pub(in crate::store) async fn the_last_proof_is_remembered(store: Arc<dyn Store>) {
    let mut session = Session::first(&*store, 1).await;
    session.append(&*store, 1).await;
    session.append(&*store, 2).await;
    let report = |seq, equal| ProofReport { seq, equal };
    let told = async |report, now| store.hear(session.word(Says::Proved(report), now)).await;
    told(report(1, true), later(1)).await.unwrap();
    let state = told(report(2, true), later(2)).await.unwrap();
    let want = Proof {
        at: later(2),
        seq: 2,
        equal: true,
    };
    assert_eq!((state.proof, state.held_since), (Some(want), None));
    assert!(matches!(
        refusal(told(report(3, false), later(3)).await),
        Refusal::BadProof(_)
    ));
    assert_eq!(store.account(session.account, later(2)).await.unwrap(), state);
}

pub(in crate::store) async fn a_fenced_run_proves_and_accepts_nothing(store: Arc<dyn Store>) {
    let mut old = Session::first(&*store, 1).await;
    old.append(&*store, 1).await;
    let new = Session::open(&*store, 1, takeover(claim(2, 2, 1, 2))).await;
    let report = ProofReport { seq: 1, equal: false };
    let proved = store.hear(old.word(Says::Proved(report), NOW)).await;
    assert!(matches!(refusal(proved), Refusal::Fenced { .. }));
    store.hear(new.word(Says::Proved(report), NOW)).await.unwrap();
    let accepted = store.hear(old.word(Says::Accepted, NOW)).await;
    assert!(matches!(refusal(accepted), Refusal::Fenced { .. }));
    assert_eq!(new.state(&*store).await.held_since, Some(NOW));
}

pub(in crate::store) async fn a_writer_may_ask_for_a_roll_up_and_is_asked_for_it_until_a_snapshot_is_there(
    store: Arc<dyn Store>,
) {
    let mut session = Session::first(&*store, 1).await;
    session.pack(&*store, 1, &[10]).await;
    session.append(&*store, 1).await;
    assert!(!session.state(&*store).await.roll_up);
    for _ in 0..2 {
        let state = store.hear(session.word(Says::RollUp, NOW)).await.unwrap();
        assert!(state.roll_up);
    }
    // Another word leaves the wish as it is.
    let report = ProofReport { seq: 1, equal: true };
    let state = store.hear(session.word(Says::Proved(report), NOW)).await.unwrap();
    assert!(state.roll_up);
    rolled_up(&*store, &mut session, 1, &[10], NOW).await;
    assert!(!session.state(&*store).await.roll_up);
    Session::open(&*store, 1, takeover(claim(2, 2, 1, 2))).await;
    let asked = store.hear(session.word(Says::RollUp, NOW)).await;
    assert!(matches!(refusal(asked), Refusal::Fenced { .. }));
}

pub(in crate::store) async fn a_failed_proof_holds_everything_until_it_is_accepted(store: Arc<dyn Store>) {
    let mut session = Session::first(&*store, 1).await;
    session.pack(&*store, 1, &[10, 20, 30]).await;
    rolled_up(&*store, &mut session, 1, &[10], NOW).await;
    rolled_up(&*store, &mut session, 2, &[20], NOW).await;
    session.append(&*store, 1).await;
    let report = async |equal, now| {
        let report = ProofReport { seq: 1, equal };
        store
            .hear(session.word(Says::Proved(report), now))
            .await
            .unwrap()
            .held_since
    };
    assert_eq!(report(false, later(1)).await, Some(later(1)));
    // Neither another failure nor a success changes it.
    assert_eq!(report(false, later(2)).await, Some(later(1)));
    assert_eq!(report(true, later(3)).await, Some(later(1)));
    let late = later(99 * DAY);
    assert_eq!(drop_all(&*store, session.account, late).await, 0);
    assert_eq!(listed(&*store, &session).await, [2, 1]);
    let held = vec![ChunkId([30; 32])];
    assert!(store.locate(session.account, held.clone()).await.unwrap()[0].is_some());
    for _ in 0..2 {
        let state = store.hear(session.word(Says::Accepted, late)).await.unwrap();
        assert_eq!(state.held_since, None);
    }
    drop_all(&*store, session.account, late).await;
    assert_eq!(listed(&*store, &session).await, [2]);
    assert_eq!(store.locate(session.account, held).await.unwrap(), [None]);
}

pub(in crate::store) async fn a_superseded_snapshot_goes_with_the_log_below_the_next_when_its_time_is_over(
    store: Arc<dyn Store>,
) {
    let mut session = Session::first(&*store, 1).await;
    session.pack(&*store, 1, &[10, 20]).await;
    session.append(&*store, 1).await;
    rolled_up(&*store, &mut session, 1, &[10], NOW).await;
    rolled_up(&*store, &mut session, 2, &[10, 20], later(DAY)).await;
    session.append(&*store, 2).await;
    let whole = session.state(&*store).await;
    assert_eq!(drop_all(&*store, session.account, later(3 * DAY)).await, 1);
    // The log below the first snapshot was superseded by it; its base is still there.
    let state = session.state(&*store).await;
    assert_eq!(
        (state.first_seq, listed(&*store, &session).await),
        (2, vec![2, 1])
    );
    drop_all(&*store, session.account, later(3 * DAY + 1)).await;
    let state = session.state(&*store).await;
    assert_eq!(listed(&*store, &session).await, [2]);
    assert_eq!((state.first_seq, state.head), (3, whole.head));
    assert_eq!(state.log_bytes, 2 * RECORD_MIN as u64);
    assert_eq!(session.log(&*store).await.len(), 2);
    let gone = SnapshotId([1; 16]);
    assert_eq!(store.manifest(session.account, gone).await.unwrap(), None);
    let orphan = session.commit(3, Some(1), &[], &[]);
    assert_eq!(refusal(store.commit_snapshot(orphan).await), Refusal::NotFound);
    // However long it lies, the newest stays, with what it needs and the log above it.
    drop_all(&*store, session.account, later(999 * DAY)).await;
    assert_eq!(listed(&*store, &session).await, [2]);
    let ids = [10, 20].map(|id| ChunkId([id; 32])).to_vec();
    let places = store.locate(session.account, ids).await.unwrap();
    assert!(places.iter().all(Option::is_some));
    session.append(&*store, 3).await;
}

pub(in crate::store) async fn a_snapshot_that_rests_on_the_head_supersedes_nothing_yet(
    store: Arc<dyn Store>,
) {
    let mut old = Session::first(&*store, 1).await;
    old.pack(&*store, 1, &[10, 20]).await;
    rolled_up(&*store, &mut old, 1, &[10], NOW).await;
    let base = old.head;
    rolled_up(&*store, &mut old, 2, &[20], NOW).await;
    drop_all(&*store, old.account, later(99 * DAY)).await;
    let new = Session::open(&*store, 1, claim(1, 2, 1, 2)).await;
    store
        .append(new.record(2, base.hash, 3, RECORD_MIN))
        .await
        .unwrap();
    // What the replaced head leaves is a snapshot, and the whole log above it.
    assert_eq!(listed(&*store, &new).await, [1]);
    assert_eq!(new.state(&*store).await.first_seq, 1);
    let places = store.locate(new.account, vec![ChunkId([10; 32])]).await;
    assert!(places.unwrap()[0].is_some());
}

pub(in crate::store) async fn records_go_a_few_megabytes_at_a_time(store: Arc<dyn Store>) {
    let mut session = Session::first(&*store, 1).await;
    for _ in 0..5 {
        append(&*store, &mut session, LONG, NOW).await;
    }
    session.pack(&*store, 1, &[10]).await;
    rolled_up(&*store, &mut session, 1, &[10], NOW).await;
    session.append(&*store, 1).await;
    let late = later(3 * DAY);
    let first = async || store.account(session.account, NOW).await.unwrap().first_seq;
    let mut seen = vec![first().await];
    while store.drop_history(session.account, &POLICY, late).await.unwrap() {
        seen.push(first().await);
    }
    assert_eq!(seen, [1, 3, 5, 6]);
}

pub(in crate::store) async fn a_snapshot_off_the_chain_goes_when_its_time_is_over(store: Arc<dyn Store>) {
    let mut old = Session::first(&*store, 1).await;
    old.pack(&*store, 1, &[10, 20]).await;
    rolled_up(&*store, &mut old, 1, &[10], NOW).await;
    let base = old.head;
    rolled_up(&*store, &mut old, 2, &[20], NOW).await;
    let new = Session::open(&*store, 1, claim(1, 2, 1, 2)).await;
    store
        .append(new.record(2, base.hash, 3, RECORD_MIN))
        .await
        .unwrap();
    let manifest = async || store.manifest(new.account, SnapshotId([2; 16])).await.unwrap();
    drop_all(&*store, new.account, later(2 * DAY)).await;
    assert!(manifest().await.is_some());
    drop_all(&*store, new.account, later(2 * DAY + 1)).await;
    assert_eq!(manifest().await, None);
    assert_eq!(listed(&*store, &new).await, [1]);
}

pub(in crate::store) async fn accounts_are_listed_page_by_page(store: Arc<dyn Store>) {
    let mut made = Vec::new();
    for node in 1..=5 {
        made.push(Session::first(&*store, node).await.account);
    }
    made.sort_unstable_by_key(|account| account.0);
    let first = store.accounts(AccountId(i64::MIN), 3).await.unwrap();
    assert_eq!(first, made[..3]);
    let second = store.accounts(first[2], 3).await.unwrap();
    assert_eq!(second, made[3..]);
    assert_eq!(store.accounts(second[1], 3).await.unwrap(), []);
}
