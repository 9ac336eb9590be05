//! What pages for people are made of.

use super::*;

/// Appends so many records, a second apart, each one byte longer than the one before.
async fn grow(store: &dyn Store, session: &mut Session, records: u64) {
    for _ in 0..records {
        let (seq, prev) = (session.head.seq + 1, session.head.hash);
        let len = RECORD_MIN + usize::try_from(seq).unwrap();
        let mut append = session.record(seq, prev, 1, len);
        append.now = later(seq * 1000);
        session.head = store.append(append).await.unwrap().head;
    }
}

pub(in crate::store) async fn an_account_is_found_by_its_node_and_network_alone(store: Arc<dyn Store>) {
    let session = Session::first(&*store, 1).await;
    let node = NodeId([1; 33]);
    let found = store.account_of(node, Network::Regtest).await.unwrap().unwrap();
    assert_eq!((found.id, found.node), (session.account, node));
    assert_eq!(store.whole_account(session.account).await.unwrap(), found);
    assert_eq!(store.account_of(node, Network::Bitcoin).await.unwrap(), None);
    let nobody = NodeId([2; 33]);
    assert_eq!(store.account_of(nobody, Network::Regtest).await.unwrap(), None);
    let absent = AccountId(session.account.0 + 1);
    assert_eq!(refusal(store.whole_account(absent).await), Refusal::NotFound);
    assert_eq!(refusal(store.growth(absent).await), Refusal::NotFound);
}

pub(in crate::store) async fn whole_accounts_are_listed_page_by_page(store: Arc<dyn Store>) {
    let mut accounts = Vec::new();
    for node in 1..=5 {
        let mut session = Session::first(&*store, node).await;
        session.append(&*store, 1).await;
        accounts.push(store.whole_account(session.account).await.unwrap());
    }
    let mut listed = Vec::new();
    loop {
        let after = listed.last().map_or(AccountId(0), |account: &Account| account.id);
        let page = store.whole_accounts(after, 2).await.unwrap();
        assert!(page.len() <= 2);
        if page.is_empty() {
            break;
        }
        listed.extend(page);
    }
    assert_eq!(listed, accounts);
}

pub(in crate::store) async fn the_growth_of_a_short_log_is_exact(store: Arc<dyn Store>) {
    let mut session = Session::first(&*store, 1).await;
    assert_eq!(store.growth(session.account).await.unwrap(), Growth::default());
    // Another account's log is not measured.
    grow(&*store, &mut Session::first(&*store, 2).await, 3).await;
    grow(&*store, &mut session, 3).await;
    let growth = store.growth(session.account).await.unwrap();
    let least = u64::try_from(RECORD_MIN).unwrap();
    let point = |seq: u64, bytes| GrowthPoint {
        at: later(seq * 1000),
        seq,
        bytes,
    };
    assert!(growth.exact);
    assert_eq!(
        growth.points,
        [
            point(1, 0),
            point(2, least + 1),
            point(3, 2 * least + 3),
            point(3, 3 * least + 6)
        ]
    );
}

pub(in crate::store) async fn the_growth_of_a_long_log_is_measured_here_and_there_and_ends_at_the_log(
    store: Arc<dyn Store>,
) {
    let mut session = Session::first(&*store, 1).await;
    let records = super::super::pages::STRETCHES * super::super::pages::MEASURED + 1;
    grow(&*store, &mut session, records).await;
    let growth = store.growth(session.account).await.unwrap();
    let log = store.whole_account(session.account).await.unwrap().log_bytes;
    assert!(!growth.exact);
    assert!(growth.points.len() <= 65);
    let (first, last) = (growth.points[0], *growth.points.last().unwrap());
    assert_eq!((first.seq, first.bytes), (1, 0));
    assert_eq!(
        (last.seq, last.bytes, last.at),
        (records, log, later(records * 1000))
    );
    // Where it says that the log stood is where it stood, but for a hundredth of the whole.
    let shortest = u64::try_from(RECORD_MIN).unwrap();
    for point in growth.points.iter().take(growth.points.len() - 1) {
        let before = point.seq - 1;
        let stood = before * shortest + before * (before + 1) / 2;
        assert!(
            point.bytes.abs_diff(stood) <= log / 100,
            "{point:?}, it was {stood}"
        );
    }
}
