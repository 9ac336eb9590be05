//! Who may come, how much room each has, who is watched and who is leaving. These rules need the operator's way into the
//! database beside the store: each is given what opens both.

use super::*;
use QuotaLevel::{Exhausted, Near, Overdraft};
use backstop_protocol::{
    id::ServerKey,
    quota::QuotaLevel,
    removal::{RemovalWord, Wish},
};
use proptest::prelude::*;

const DAY: u64 = 24 * 60 * 60 * 1000;

/// Hands the names of these rules to a macro: `async fn rule(open: impl AsyncFn(Terms) -> (Arc<dyn Store>, Office))`.
macro_rules! for_every_rule_of_tenants {
    ($run:ident) => {
        $run! {
            a_good_invitation_lets_in_as_many_nodes_as_it_says_on_its_terms,
            an_invitation_that_is_not_good_is_refused_alike_and_leaves_no_trace,
            of_many_that_come_at_once_with_one_invitation_as_many_come_as_it_says,
            an_allowlist_lets_in_whom_it_names_and_nobody_else,
            who_has_an_account_needs_no_invitation,
            use_is_what_a_recount_finds_whatever_happens,
            a_pack_is_refused_before_a_record_and_neither_changes_anything,
            a_full_account_takes_again_what_it_has,
            a_node_that_runs_out_of_room_is_asked_for_roll_ups_early,
            a_quota_that_an_operator_raises_counts_at_once,
            what_the_server_gathers_itself_is_never_refused_for_want_of_room,
            history_yields_as_room_runs_out,
            until_a_removal_begins_everything_goes_on_and_it_can_be_taken_back,
            a_removed_account_leaves_nothing_and_its_node_may_come_again,
            an_account_that_is_going_takes_and_gives_nothing,
            what_is_held_goes_with_its_account,
            each_thing_is_told_once,
        }
    };
}
pub(in crate::store) use for_every_rule_of_tenants;

fn invited() -> Terms {
    Terms {
        registration: Registration::Invite,
        ..Terms::default()
    }
}

fn room(bytes: u64) -> Terms {
    Terms {
        quota: QuotaPolicy {
            bytes: Some(bytes),
            ..QuotaPolicy::default()
        },
        ..Terms::default()
    }
}

fn token(name: u8) -> InviteToken {
    InviteToken::new([name; 4], [name; 16])
}

fn invitation(name: u8, uses: u64) -> Invite {
    let ShownInvite { id, hash } = token(name).shown();
    Invite {
        id,
        hash,
        note: "for a friend".to_owned(),
        quota: Some(5_000_000),
        uses,
        used: 0,
        created_at: NOW,
        expires_at: Some(later(DAY)),
        revoked_at: None,
    }
}

fn coming(node: u8, invite: Option<u8>) -> SessionRequest {
    SessionRequest {
        invite: invite.map(|name| token(name).shown()),
        ..read_request(node, Some(granted(node, node, Scope::Append, 1)))
    }
}

async fn used(office: &mut Office, node: u8) -> (u64, u64) {
    let account = office.account(NodeId([node; 33]), None).await.unwrap();
    (account.log_bytes, account.kept_bytes)
}

/// What the account says it uses is what its rows are.
async fn recounted(office: &mut Office, session: &Session) -> u64 {
    let node = session.timeline.0[0];
    let said = used(office, node).await;
    assert_eq!(said, office.recount(session.account).await.unwrap());
    said.0 + said.1
}

fn files(session: &Session, fill: u8, len: usize) -> PutFiles {
    PutFiles {
        account: session.account,
        writer: session.writer,
        sealed: vec![fill; len].into(),
        now: NOW,
    }
}

pub(in crate::store) async fn a_good_invitation_lets_in_as_many_nodes_as_it_says_on_its_terms(
    open: impl AsyncFn(Terms) -> (Arc<dyn Store>, Office),
) {
    let (store, mut office) = open(invited()).await;
    office.act(&Act::Invite(invitation(7, 2))).await.unwrap();
    for node in [1, 2] {
        let (_, state) = store.open_session(coming(node, Some(7))).await.unwrap();
        assert_eq!(state.quota.unwrap().bytes, 5_000_000);
    }
    let third = store.open_session(coming(3, Some(7))).await;
    assert_eq!(refusal(third), Refusal::RegistrationClosed);
    let known = office.invites().await.unwrap();
    assert_eq!(
        known,
        [Invite {
            used: 2,
            ..invitation(7, 2)
        }]
    );
    let account = office.account(NodeId([1; 33]), None).await.unwrap();
    assert_eq!(account.invite, Some(known[0].id));
}

pub(in crate::store) async fn an_invitation_that_is_not_good_is_refused_alike_and_leaves_no_trace(
    open: impl AsyncFn(Terms) -> (Arc<dyn Store>, Office),
) {
    let (store, mut office) = open(invited()).await;
    for name in [7, 8] {
        office.act(&Act::Invite(invitation(name, 9))).await.unwrap();
    }
    let revoke = Act::Revoke(token(8).id(), NOW);
    office.act(&revoke).await.unwrap();
    let forged = ShownInvite {
        hash: [1; 32],
        ..token(7).shown()
    };
    let late = SessionRequest {
        now: later(DAY),
        ..coming(1, Some(7))
    };
    let forged = SessionRequest {
        invite: Some(forged),
        ..coming(1, None)
    };
    for request in [
        coming(1, None),
        coming(1, Some(8)),
        coming(1, Some(9)),
        late,
        forged,
    ] {
        let refused = store.open_session(request).await;
        assert_eq!(refusal(refused), Refusal::RegistrationClosed);
    }
    assert!(
        office
            .invites()
            .await
            .unwrap()
            .iter()
            .all(|invite| invite.used == 0)
    );
    assert_eq!(office.accounts().await.unwrap(), []);
    assert_eq!(store.grants(AccessKey([1; 32])).await.unwrap(), []);
    let unknown = office.act(&Act::Revoke(token(9).id(), NOW)).await;
    assert!(unknown.is_err());
}

pub(in crate::store) async fn of_many_that_come_at_once_with_one_invitation_as_many_come_as_it_says(
    open: impl AsyncFn(Terms) -> (Arc<dyn Store>, Office),
) {
    let (store, mut office) = open(invited()).await;
    office.act(&Act::Invite(invitation(7, 3))).await.unwrap();
    let mut coming_at_once = tokio::task::JoinSet::new();
    for node in 1..=10 {
        let store = store.clone();
        coming_at_once.spawn(async move { store.open_session(coming(node, Some(7))).await.is_ok() });
    }
    let came = coming_at_once
        .join_all()
        .await
        .into_iter()
        .filter(|came| *came)
        .count();
    assert_eq!((came, office.accounts().await.unwrap().len()), (3, 3));
}

pub(in crate::store) async fn an_allowlist_lets_in_whom_it_names_and_nobody_else(
    open: impl AsyncFn(Terms) -> (Arc<dyn Store>, Office),
) {
    let terms = Terms {
        registration: Registration::Allowlist,
        ..Terms::default()
    };
    let (store, mut office) = open(terms).await;
    office.act(&Act::Invite(invitation(7, 9))).await.unwrap();
    let allowed = Allowed {
        node: NodeId([1; 33]),
        network: Network::Regtest,
        quota: Some(9_000_000),
        allowed_at: NOW,
    };
    office.act(&Act::Allow(allowed.clone())).await.unwrap();
    assert_eq!(office.allowed().await.unwrap(), [allowed]);
    let (_, state) = store.open_session(coming(1, None)).await.unwrap();
    assert_eq!(state.quota.unwrap().bytes, 9_000_000);
    for request in [coming(2, None), coming(2, Some(7))] {
        assert_eq!(
            refusal(store.open_session(request).await),
            Refusal::RegistrationClosed
        );
    }
    let mainnet = |request| SessionRequest {
        network: Network::Bitcoin,
        ..request
    };
    let elsewhere = store.open_session(mainnet(coming(1, None))).await;
    assert_eq!(refusal(elsewhere), Refusal::RegistrationClosed);
    let undo = Act::Disallow(NodeId([1; 33]), Network::Regtest);
    office.act(&undo).await.unwrap();
    assert!(office.act(&undo).await.is_err());
    store.open_session(coming(1, None)).await.unwrap();
}

pub(in crate::store) async fn who_has_an_account_needs_no_invitation(
    open: impl AsyncFn(Terms) -> (Arc<dyn Store>, Office),
) {
    let (store, mut office) = open(invited()).await;
    office.act(&Act::Invite(invitation(7, 9))).await.unwrap();
    store.open_session(coming(1, Some(7))).await.unwrap();
    // A restart, long after the invitation is void; and with any other.
    for invite in [None, Some(9)] {
        let again = SessionRequest {
            now: later(99 * DAY),
            ..coming(1, invite)
        };
        store.open_session(again).await.unwrap();
    }
    assert_eq!(office.invites().await.unwrap()[0].used, 1);
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

/// Room for three of the smallest records, with an overdraft of three more.
fn tight() -> Terms {
    let three = 3 * u64::try_from(RECORD_MIN).unwrap();
    Terms {
        quota: QuotaPolicy {
            bytes: Some(three),
            warn_percent: 60,
            overdraft_percent: 100,
        },
        ..Terms::default()
    }
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

fn word(node: u8, wish: Wish, asked_at: UnixMillis) -> RemovalWord {
    RemovalWord {
        wish,
        node: NodeId([node; 33]),
        network: Network::Regtest,
        server: ServerKey([1; 32]),
        asked_at,
    }
}

pub(in crate::store) async fn until_a_removal_begins_everything_goes_on_and_it_can_be_taken_back(
    open: impl AsyncFn(Terms) -> (Arc<dyn Store>, Office),
) {
    let (store, mut office) = open(Terms::default()).await;
    let mut session = Session::first(&*store, 1).await;
    let asked = word(1, Wish::Remove, NOW);
    let state = store.hear_owner(session.account, asked, NOW).await.unwrap();
    assert_eq!(state.removal_at, Some(later(7 * DAY)));
    // The node goes on, and hears of it.
    let appended = store.append(session.next(1)).await.unwrap();
    assert_eq!(appended.removal_at, Some(later(7 * DAY)));
    session.head = appended.head;
    assert_eq!(
        store
            .remove_some(session.account, later(7 * DAY - 1))
            .await
            .unwrap(),
        Leaving::No
    );
    let keep = word(1, Wish::Keep, later(1));
    let state = store.hear_owner(session.account, keep, NOW).await.unwrap();
    assert_eq!(state.removal_at, None);
    let again = store.hear_owner(session.account, asked, NOW).await;
    assert!(matches!(refusal(again), Refusal::BadRemoval(_)));
    // The same by the operator's word.
    office.act(&Act::Remove(session.account, later(5))).await.unwrap();
    assert_eq!(session.state(&*store).await.removal_at, Some(later(5)));
    let not_his = store
        .hear_owner(session.account, word(1, Wish::Keep, later(2)), NOW)
        .await;
    assert!(matches!(refusal(not_his), Refusal::BadRemoval(_)));
    office.act(&Act::Restore(session.account)).await.unwrap();
    assert_eq!(
        store.remove_some(session.account, later(99 * DAY)).await.unwrap(),
        Leaving::No
    );
    session.append(&*store, 2).await;
}

/// A node with something of everything.
async fn full(store: &dyn Store, node: u8) -> Session {
    let mut session = Session::first(store, node).await;
    for fill in 1..=3 {
        session.append(store, fill).await;
    }
    session.pack(store, 1, &[10, 11]).await;
    session.pack(store, 2, &[12]).await;
    for snapshot in [1, 2] {
        store
            .commit_snapshot(session.commit(snapshot, None, &[10, 12], &[]))
            .await
            .unwrap();
    }
    store.put_files(files(&session, 1, 400)).await.unwrap();
    session
}

/// Removes an account to its end, packs and all.
async fn remove(store: &dyn Store, account: AccountId, now: UnixMillis) -> usize {
    let mut packs = 0;
    loop {
        match store.remove_some(account, now).await.unwrap() {
            Leaving::No => panic!("it stays"),
            Leaving::Going => {}
            Leaving::Packs => {
                for pack in store.begin_removals(account, now).await.unwrap() {
                    let removal = store.hold_removal(account, pack).await.unwrap().unwrap();
                    removal.end().await.unwrap();
                    packs += 1;
                }
            }
            Leaving::Gone { .. } => return packs,
        }
    }
}

pub(in crate::store) async fn a_removed_account_leaves_nothing_and_its_node_may_come_again(
    open: impl AsyncFn(Terms) -> (Arc<dyn Store>, Office),
) {
    let (store, mut office) = open(Terms::default()).await;
    let (one, other) = (full(&*store, 1).await, full(&*store, 2).await);
    let before = other.state(&*store).await;
    office.act(&Act::Remove(one.account, later(5))).await.unwrap();
    assert_eq!(remove(&*store, one.account, later(5)).await, 2);
    assert_eq!(office.recount(one.account).await.unwrap(), (0, 0));
    assert_eq!(store.grants(AccessKey([1; 32])).await.unwrap(), []);
    assert_eq!(store.snapshots(one.account).await.unwrap(), []);
    let gone = store.account(one.account, NOW).await;
    assert_eq!(refusal(gone), Refusal::NotFound);
    assert_eq!(office.accounts().await.unwrap().len(), 1);
    // Whoever is beside it notices nothing.
    assert_eq!(other.state(&*store).await, before);
    assert_eq!(other.log(&*store).await.len(), 3);
    let again = Session::first(&*store, 1).await;
    assert_ne!(again.account, one.account);
    assert_eq!(again.state(&*store).await.head, Head::EMPTY);
}

pub(in crate::store) async fn an_account_that_is_going_takes_and_gives_nothing(
    open: impl AsyncFn(Terms) -> (Arc<dyn Store>, Office),
) {
    let (store, mut office) = open(Terms::default()).await;
    let session = full(&*store, 1).await;
    office.act(&Act::Remove(session.account, NOW)).await.unwrap();
    assert_eq!(
        store.remove_some(session.account, NOW).await.unwrap(),
        Leaving::Going
    );
    assert!(office.act(&Act::Restore(session.account)).await.is_err());
    assert_eq!(refusal(store.append(session.next(9)).await), Refusal::NotFound);
    assert_eq!(
        refusal(store.put_files(files(&session, 2, 400)).await),
        Refusal::NotFound
    );
    let commit = store.commit_snapshot(session.commit(3, None, &[10], &[])).await;
    assert_eq!(refusal(commit), Refusal::NotFound);
    let arrival = PackArrival {
        account: session.account,
        pack: PackId([9; 32]),
        bytes: 342,
        judged: true,
        now: NOW,
    };
    assert_eq!(refusal(store.register_pack(arrival).await), Refusal::NotFound);
    assert_eq!(
        refusal(store.account(session.account, NOW).await),
        Refusal::NotFound
    );
    let opening = append_request(1, Some(granted(1, 1, Scope::Append, 1)), claim(1, 2, 1, 2));
    let again = store.open_session(opening).await;
    assert!(matches!(again, Err(StoreError::Unavailable(_))), "{again:?}");
    remove(&*store, session.account, NOW).await;
}

pub(in crate::store) async fn what_is_held_goes_with_its_account(
    open: impl AsyncFn(Terms) -> (Arc<dyn Store>, Office),
) {
    let (store, mut office) = open(Terms::default()).await;
    let session = full(&*store, 1).await;
    let report = ProofReport { seq: 1, equal: false };
    store
        .report_proof(session.account, session.writer, report, NOW)
        .await
        .unwrap();
    office.act(&Act::Remove(session.account, NOW)).await.unwrap();
    assert_eq!(remove(&*store, session.account, NOW).await, 2);
}

pub(in crate::store) async fn each_thing_is_told_once(open: impl AsyncFn(Terms) -> (Arc<dyn Store>, Office)) {
    let (store, mut office) = open(tight()).await;
    let mut session = Session::first(&*store, 1).await;
    let watch = async |now| store.watch(session.account, now).await.unwrap();
    assert_eq!(watch(NOW).await.notices, []);
    let mut writing = session.clone();
    writing.append(&*store, 1).await;
    writing.append(&*store, 2).await;
    session.head = writing.head;
    let now = later(2 * DAY);
    office
        .act(&Act::Remove(session.account, later(9 * DAY)))
        .await
        .unwrap();
    let watched = watch(now).await;
    assert_eq!(
        (watched.silent, watched.level, watched.leaving),
        (true, QuotaLevel::Near, true)
    );
    assert!(matches!(
        &watched.notices[..],
        [
            Notice::Silent { since: NOW },
            Notice::Quota(_),
            Notice::RemovalAsked { .. }
        ]
    ));
    let again = watch(now).await;
    assert_eq!((again.silent, again.notices), (true, vec![]));
    office.act(&Act::Restore(session.account)).await.unwrap();
    assert_eq!(watch(now).await.notices, [Notice::RemovalUndone]);
    assert_eq!(watch(now).await.notices, []);
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
