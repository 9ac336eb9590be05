//! What a mirror, and who manages grants, asks for.

use super::*;

pub(in crate::store) async fn an_accounts_grants_are_listed_with_their_floor_the_highest_serial_first(
    store: Arc<dyn Store>,
) {
    let session = Session::first(&*store, 1).await;
    Session::first(&*store, 2).await;
    let device = SessionRequest {
        access_key: AccessKey([7; 32]),
        now: later(5),
        ..read_request(1, Some(granted(1, 7, Scope::Read, 3)))
    };
    store.open_session(device).await.unwrap();
    store.raise_grant_floor(session.account, 2).await.unwrap();
    let listed = store.account_grants(session.account).await.unwrap();
    assert_eq!(listed.floor, 2);
    let grants: Vec<_> = listed
        .grants
        .iter()
        .map(|known| (known.text.parse::<Grant>().unwrap(), known.shown_at))
        .collect();
    let want = [
        (granted(1, 7, Scope::Read, 3).grant, later(5)),
        (granted(1, 1, Scope::Append, 1).grant, NOW),
    ];
    assert_eq!(grants, want);
    assert_eq!(
        refusal(store.account_grants(AccountId(99)).await),
        Refusal::NotFound
    );
}

pub(in crate::store) async fn a_snapshots_chunks_are_listed_by_id_page_by_page(store: Arc<dyn Store>) {
    let mut session = Session::first(&*store, 1).await;
    session.append(&*store, 1).await;
    // Neither the order of their arrival nor that of the packs is the order of their ids.
    session.pack(&*store, 1, &[40, 10, 30]).await;
    session.pack(&*store, 2, &[20, 50]).await;
    let commit = session.commit(1, None, &[10, 20, 30, 40], &[]);
    store.commit_snapshot(commit).await.unwrap();
    let (id, account) = (|byte| ChunkId([byte; 32]), session.account);
    let page = async |after: Option<u8>, most| {
        store
            .snapshot_chunks(account, SnapshotId([1; 16]), after.map(id), most)
            .await
            .unwrap()
            .unwrap()
    };
    assert_eq!(page(None, 3).await, [id(10), id(20), id(30)]);
    assert_eq!(page(Some(30), 3).await, [id(40)]);
    assert_eq!(page(Some(40), 3).await, []);
    assert_eq!(page(Some(15), 1).await, [id(20)]);
    let other = Session::first(&*store, 2).await.account;
    for (account, snapshot) in [(account, 2), (other, 1)] {
        let none = store
            .snapshot_chunks(account, SnapshotId([snapshot; 16]), None, 9)
            .await
            .unwrap();
        assert_eq!(none, None);
    }
}
