//! Who may open a session, and who is the writer (I7).

use super::*;

pub(in crate::store) async fn an_append_opening_with_a_good_grant_makes_the_account(store: Arc<dyn Store>) {
    let request = append_request(1, Some(granted(1, 1, Scope::Append, 1)), claim(2, 3, 0, 4));
    let (account, state) = store.open_session(request).await.unwrap();
    let want = AccountState {
        node: NodeId([1; 33]),
        network: Network::Regtest,
        epoch: 4,
        timeline: None,
        head: Head::EMPTY,
        head_received_at: None,
        writer_since: Some(NOW),
        writer_seen_at: Some(NOW),
        first_seq: 0,
        log_bytes: 0,
        snapshot: None,
        roll_up: false,
        proof: None,
        held_since: None,
        files: None,
        quota: None,
        removal_at: None,
        restored_since: None,
        time: NOW,
    };
    assert_eq!(state, want);
    assert_eq!(store.account(account, NOW).await.unwrap(), want);
}

pub(in crate::store) async fn who_shows_no_grant_does_not_learn_whether_there_is_an_account(
    store: Arc<dyn Store>,
) {
    Session::first(&*store, 1).await;
    let stranger = |request| SessionRequest {
        access_key: AccessKey([9; 32]),
        ..request
    };
    for node in [1, 2] {
        let read = store.open_session(stranger(read_request(node, None))).await;
        assert_eq!(refusal(read), Refusal::GrantMissing);
        let append = append_request(node, None, claim(9, 9, 0, 1));
        assert_eq!(
            refusal(store.open_session(stranger(append)).await),
            Refusal::GrantMissing
        );
    }
}

pub(in crate::store) async fn a_grant_to_append_makes_the_account_and_one_to_read_does_not(
    store: Arc<dyn Store>,
) {
    for _ in 0..2 {
        let request = read_request(1, Some(granted(1, 1, Scope::Read, 1)));
        assert_eq!(refusal(store.open_session(request).await), Refusal::NotFound);
    }
    let request = read_request(1, Some(granted(1, 1, Scope::Append, 1)));
    let (account, state) = store.open_session(request).await.unwrap();
    assert_eq!((state.epoch, state.head), (0, Head::EMPTY));
    assert_eq!(Session::first(&*store, 1).await.account, account);
}

pub(in crate::store) async fn a_grant_once_shown_suffices_for_its_key_and_for_no_other(
    store: Arc<dyn Store>,
) {
    let session = Session::first(&*store, 1).await;
    let (account, _) = store.open_session(read_request(1, None)).await.unwrap();
    assert_eq!(account, session.account);
    store
        .open_session(append_request(1, None, claim(1, 2, 1, 2)))
        .await
        .unwrap();
    let other_key = SessionRequest {
        access_key: AccessKey([2; 32]),
        ..read_request(1, None)
    };
    assert_eq!(
        refusal(store.open_session(other_key).await),
        Refusal::GrantMissing
    );
    let other_network = SessionRequest {
        network: Network::Bitcoin,
        ..read_request(1, None)
    };
    assert_eq!(
        refusal(store.open_session(other_network).await),
        Refusal::GrantMissing
    );
}

pub(in crate::store) async fn grants_are_listed_by_key_the_highest_serial_first(store: Arc<dyn Store>) {
    Session::first(&*store, 1).await;
    for serial in [5, 3, 3] {
        let request = read_request(1, Some(granted(1, 1, Scope::Read, serial)));
        store.open_session(request).await.unwrap();
    }
    let listed = store.grants(AccessKey([1; 32])).await.unwrap();
    let serials: Vec<_> = listed
        .iter()
        .map(|signed| signed.text.parse::<Grant>().unwrap().serial)
        .collect();
    assert_eq!(serials, [5, 3, 1]);
    assert_eq!(store.grants(AccessKey([2; 32])).await.unwrap(), []);
}

pub(in crate::store) async fn a_grant_below_the_floor_is_revoked_and_the_floor_never_falls(
    store: Arc<dyn Store>,
) {
    let session = Session::first(&*store, 1).await;
    store.raise_grant_floor(session.account, 7).await.unwrap();
    store.raise_grant_floor(session.account, 2).await.unwrap();
    let open = async |grant| store.open_session(read_request(1, grant)).await;
    assert_eq!(refusal(open(None).await), Refusal::GrantRevoked);
    assert_eq!(
        refusal(open(Some(granted(1, 1, Scope::Read, 6))).await),
        Refusal::GrantRevoked
    );
    assert!(open(Some(granted(1, 1, Scope::Read, 7))).await.is_ok());
    assert!(open(None).await.is_ok());
    let nobody = store.raise_grant_floor(AccountId(99), 1).await;
    assert_eq!(refusal(nobody), Refusal::NotFound);
}

pub(in crate::store) async fn an_expired_grant_is_refused_shown_or_remembered(store: Arc<dyn Store>) {
    let until = shown(Grant {
        expires_at: Some(NOW.as_secs()),
        ..granted(1, 1, Scope::Append, 1).grant
    });
    let request = append_request(1, Some(until.clone()), claim(1, 1, 0, 1));
    store.open_session(request).await.unwrap();
    for grant in [None, Some(until)] {
        let request = SessionRequest {
            now: later(1000),
            ..read_request(1, grant)
        };
        assert_eq!(refusal(store.open_session(request).await), Refusal::GrantExpired);
    }
}

pub(in crate::store) async fn a_read_grant_opens_no_append_session(store: Arc<dyn Store>) {
    let narrow = Some(granted(1, 1, Scope::Read, 1));
    let unknown = append_request(1, narrow.clone(), claim(1, 1, 0, 1));
    assert_eq!(
        refusal(store.open_session(unknown).await),
        Refusal::ScopeInsufficient
    );
    Session::first(&*store, 1).await;
    let known = append_request(1, narrow, claim(1, 2, 1, 2));
    assert_eq!(
        refusal(store.open_session(known).await),
        Refusal::ScopeInsufficient
    );
}

pub(in crate::store) async fn a_refused_opening_leaves_no_trace(store: Arc<dyn Store>) {
    let wrong_epoch = append_request(1, Some(granted(1, 1, Scope::Append, 1)), claim(1, 1, 5, 6));
    let refused = store.open_session(wrong_epoch).await;
    assert!(matches!(
        refusal(refused),
        Refusal::EpochMismatch { epoch: 0, .. }
    ));
    assert_eq!(store.grants(AccessKey([1; 32])).await.unwrap(), []);
    let read = read_request(1, Some(granted(1, 1, Scope::Read, 1)));
    assert_eq!(refusal(store.open_session(read).await), Refusal::NotFound);

    let session = Session::first(&*store, 1).await;
    let before = session.state(&*store).await;
    let not_above = append_request(1, Some(granted(1, 1, Scope::Append, 2)), claim(1, 2, 1, 1));
    assert!(matches!(
        refusal(store.open_session(not_above).await),
        Refusal::BadClaim(_)
    ));
    assert_eq!(session.state(&*store).await, before);
    assert_eq!(store.grants(AccessKey([1; 32])).await.unwrap().len(), 1);
}

pub(in crate::store) async fn the_writers_own_claim_succeeds_again_at_any_time(store: Arc<dyn Store>) {
    let mut session = Session::first(&*store, 1).await;
    session.append(&*store, 1).await;
    let before = session.state(&*store).await;
    let again = SessionRequest {
        now: later(500),
        ..append_request(1, None, claim(1, 1, 0, 1))
    };
    let (account, state) = store.open_session(again).await.unwrap();
    assert_eq!(account, session.account);
    let seen = AccountState {
        writer_seen_at: Some(later(500)),
        time: later(500),
        ..before
    };
    assert_eq!(state, seen);
    session.append(&*store, 2).await;
}

pub(in crate::store) async fn a_claim_that_expects_another_epoch_learns_the_epoch_and_the_head(
    store: Arc<dyn Store>,
) {
    let mut session = Session::open(&*store, 1, claim(1, 1, 0, 5)).await;
    session.append(&*store, 1).await;
    for (expected, epoch) in [(0, 6), (4, 6), (6, 7)] {
        let refused = store
            .open_session(append_request(1, None, claim(1, 2, expected, epoch)))
            .await;
        let want = Refusal::EpochMismatch {
            epoch: 5,
            head: session.head,
            since: Some(NOW),
        };
        assert_eq!(refusal(refused), want);
    }
}

pub(in crate::store) async fn another_instance_must_say_that_it_takes_over(store: Arc<dyn Store>) {
    let mut old = Session::first(&*store, 1).await;
    old.append(&*store, 1).await;
    for expected in [0, 1] {
        let refused = store
            .open_session(append_request(1, None, claim(2, 2, expected, 9)))
            .await;
        assert_eq!(refusal(refused), Refusal::OtherInstance { epoch: 1, since: NOW });
    }
    let mut new = Session::open(&*store, 1, takeover(claim(2, 2, 1, 2))).await;
    assert_eq!(new.head, old.head);
    let fenced = Refusal::Fenced {
        epoch: 2,
        since: Some(NOW),
    };
    assert_eq!(refusal(store.append(old.next(7)).await), fenced);
    new.append(&*store, 2).await;
    let returned = store
        .open_session(append_request(1, None, claim(1, 3, 1, 3)))
        .await;
    assert_eq!(refusal(returned), Refusal::OtherInstance { epoch: 2, since: NOW });
}

pub(in crate::store) async fn an_instance_that_wrote_nothing_gives_way_to_any_other(store: Arc<dyn Store>) {
    let old = Session::first(&*store, 1).await;
    let mut new = Session::open(&*store, 1, claim(2, 2, 1, 2)).await;
    let fenced = Refusal::Fenced {
        epoch: 2,
        since: Some(NOW),
    };
    assert_eq!(refusal(store.append(old.next(1)).await), fenced);
    new.append(&*store, 1).await;
    let returned = store
        .open_session(append_request(1, None, claim(1, 3, 2, 3)))
        .await;
    assert_eq!(refusal(returned), Refusal::OtherInstance { epoch: 2, since: NOW });
}

pub(in crate::store) async fn one_node_on_two_networks_is_two_accounts(store: Arc<dyn Store>) {
    let regtest = Session::first(&*store, 1).await;
    let on_signet = shown(Grant {
        network: Network::Signet,
        ..granted(1, 1, Scope::Append, 1).grant
    });
    let request = SessionRequest {
        network: Network::Signet,
        ..append_request(1, Some(on_signet), claim(1, 1, 0, 9))
    };
    let (signet, state) = store.open_session(request).await.unwrap();
    assert_ne!(signet, regtest.account);
    assert_eq!((state.network, state.epoch), (Network::Signet, 9));
    assert_eq!(regtest.state(&*store).await.epoch, 1);
}
