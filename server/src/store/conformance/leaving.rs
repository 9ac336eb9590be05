//! Who is watched, and who is leaving.

use super::{
    tenants::{DAY, files, tight},
    *,
};
use backstop_protocol::{
    id::ServerKey,
    quota::QuotaLevel,
    removal::{RemovalWord, Wish},
};

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
    store.hear(session.word(Says::Proved(report), NOW)).await.unwrap();
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
