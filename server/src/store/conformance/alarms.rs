//! What an operator is to hear.

use super::*;

fn alarm(node: u8) -> Alarm {
    Alarm {
        kind: "node_silent".to_owned(),
        node: NodeId([node; 33]),
        network: Network::Regtest,
        at: NOW,
        text: "No record came for 5 minutes; look at “status”.".to_owned(),
    }
}

pub(in crate::store) async fn an_alarm_is_kept_until_it_is_ended_and_one_server_has_it_at_a_time(
    store: Arc<dyn Store>,
) {
    assert_eq!(store.take_alarm(NOW, later(10)).await.unwrap(), None);
    for node in [1, 2] {
        assert!(store.keep_alarm(alarm(node)).await.unwrap());
    }
    let (first, told) = store.take_alarm(NOW, later(10)).await.unwrap().unwrap();
    assert_eq!(told, alarm(1));
    let (second, told) = store.take_alarm(NOW, later(20)).await.unwrap().unwrap();
    assert_eq!(told, alarm(2));
    assert_eq!(store.take_alarm(later(9), later(30)).await.unwrap(), None);
    // Whoever took it did not come to an end.
    let again = store.take_alarm(later(10), later(40)).await.unwrap();
    assert_eq!(again, Some((first, alarm(1))));
    store.end_alarm(first).await.unwrap();
    store.free_alarm(second, UnixMillis(0)).await.unwrap();
    let again = store.take_alarm(NOW, later(40)).await.unwrap();
    assert_eq!(again, Some((second, alarm(2))));
    store.end_alarm(second).await.unwrap();
    assert_eq!(store.take_alarm(later(99), later(100)).await.unwrap(), None);
    store.keep_alarm(alarm(3)).await.unwrap();
}

pub(in crate::store) async fn so_many_alarms_wait_and_no_more(store: Arc<dyn Store>) {
    for _ in 0..ALARMS_MAX {
        assert!(store.keep_alarm(alarm(1)).await.unwrap());
    }
    assert!(!store.keep_alarm(alarm(1)).await.unwrap());
    let (first, _) = store.take_alarm(NOW, later(1)).await.unwrap().unwrap();
    store.end_alarm(first).await.unwrap();
    assert!(store.keep_alarm(alarm(1)).await.unwrap());
}
