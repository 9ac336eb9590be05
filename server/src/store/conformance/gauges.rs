//! What a store tells its operator.

use super::*;

pub(in crate::store) async fn an_overview_counts_all_accounts_and_names_as_many_as_asked_for(
    store: Arc<dyn Store>,
) {
    let mut session = Session::first(&*store, 1).await;
    session.append(&*store, 1).await;
    session.pack(&*store, 1, &[10]).await;
    store
        .commit_snapshot(session.commit(1, None, &[10], &[]))
        .await
        .unwrap();
    Session::first(&*store, 2).await;
    let named = |node, log_bytes, snapshot_bytes, last_record_at| NodeGauges {
        node: NodeId([node; 33]),
        network: Network::Regtest,
        log_bytes,
        snapshot_bytes,
        last_record_at,
    };
    let first = named(1, 366, 300, Some(NOW));
    let all = Overview {
        accounts: 2,
        log_bytes: 366,
        held: 0,
        nodes: vec![first.clone(), named(2, 0, 0, None)],
    };
    assert_eq!(store.overview(9).await.unwrap(), all);
    assert_eq!(store.overview(1).await.unwrap().nodes, [first]);
    assert_eq!(store.overview(0).await.unwrap().nodes, []);
    assert!(store.pool().used <= store.pool().most);
}
