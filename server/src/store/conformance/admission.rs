//! Whom a server takes in.

use super::{tenants::DAY, *};

fn invited() -> Terms {
    Terms {
        registration: Registration::Invite,
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
