//! Files beside the database.

use super::*;
use backstop_protocol::{api::FilesInfo, files::FilesHeader};

impl Session {
    pub(super) fn files(&self, fill: u8, len: usize, now: UnixMillis) -> PutFiles {
        let mut sealed = FilesHeader { nonce: [fill; 24] }.encode();
        sealed.resize(len, fill);
        PutFiles {
            account: self.account,
            writer: self.writer,
            sealed: sealed.into(),
            now,
        }
    }

    /// The first byte after the header of the files as they were at a time.
    async fn files_at(&self, store: &dyn Store, at: Option<UnixMillis>) -> Option<u8> {
        let sealed = store.files(self.account, at).await.unwrap();
        sealed.map(|sealed| *sealed.last().unwrap())
    }
}

pub(in crate::store) async fn files_come_back_as_they_were_at_any_time(store: Arc<dyn Store>) {
    let session = Session::first(&*store, 1).await;
    assert_eq!(store.files(session.account, None).await.unwrap(), None);
    assert_eq!(session.state(&*store).await.files, None);
    for (fill, len) in [(1, 302), (2, 4 << 20), (3, 400)] {
        let put = session.files(fill, len, later(u64::from(fill) * 10));
        store.put_files(put.clone()).await.unwrap();
        let newest = store.files(session.account, None).await.unwrap();
        assert_eq!(newest.as_deref(), Some(put.sealed.as_ref()));
        let info = FilesInfo {
            received_at: put.now,
            bytes: len as u64,
        };
        assert_eq!(session.state(&*store).await.files, Some(info));
    }
    for (at, want) in [
        (9, None),
        (10, Some(1)),
        (19, Some(1)),
        (20, Some(2)),
        (30, Some(3)),
        (1_000_000, Some(3)),
    ] {
        assert_eq!(session.files_at(&*store, Some(later(at))).await, want, "{at}");
    }
    assert_eq!(
        session.files_at(&*store, Some(UnixMillis(u64::MAX))).await,
        Some(3)
    );
    let again = Session::open(&*store, 1, claim(1, 2, 1, 2)).await;
    assert_eq!(again.files_at(&*store, None).await, Some(3));
}

pub(in crate::store) async fn the_same_files_again_change_nothing_and_older_ones_are_a_new_version(
    store: Arc<dyn Store>,
) {
    let session = Session::first(&*store, 1).await;
    for (fill, at) in [(1, 1), (1, 2), (2, 3), (1, 4)] {
        store
            .put_files(session.files(fill, 302, later(at)))
            .await
            .unwrap();
    }
    assert_eq!(session.state(&*store).await.files.unwrap().received_at, later(4));
    // Three versions: the repetition left no trace.
    assert_eq!(store.drop_old_files(session.account, later(4)).await.unwrap(), 2);
}

pub(in crate::store) async fn a_fenced_run_stores_no_files(store: Arc<dyn Store>) {
    let old = Session::first(&*store, 1).await;
    Session::open(&*store, 1, takeover(claim(2, 2, 1, 2))).await;
    let refused = store.put_files(old.files(1, 302, NOW)).await;
    assert!(matches!(refusal(refused), Refusal::Fenced { epoch: 2, .. }));
    assert_eq!(store.files(old.account, None).await.unwrap(), None);
}

pub(in crate::store) async fn files_that_another_version_followed_are_dropped_and_the_newest_stays(
    store: Arc<dyn Store>,
) {
    let session = Session::first(&*store, 1).await;
    let drop_before = async |at| store.drop_old_files(session.account, later(at)).await.unwrap();
    assert_eq!(drop_before(100).await, 0);
    for (fill, at) in [(1, 10), (2, 20), (3, 30)] {
        store
            .put_files(session.files(fill, 302, later(at)))
            .await
            .unwrap();
    }
    assert_eq!(drop_before(9).await, 0);
    assert_eq!(drop_before(19).await, 0);
    assert_eq!(session.files_at(&*store, Some(later(19))).await, Some(1));
    assert_eq!(drop_before(25).await, 1);
    assert_eq!(session.files_at(&*store, Some(later(25))).await, Some(2));
    assert_eq!(session.files_at(&*store, Some(later(19))).await, None);
    // What a failed proof holds stays until it is accepted.
    let report = ProofReport { seq: 0, equal: false };
    store
        .hear(session.word(Says::Proved(report), later(40)))
        .await
        .unwrap();
    assert_eq!(drop_before(1_000_000).await, 0);
    store.hear(session.word(Says::Accepted, later(41))).await.unwrap();
    assert_eq!(drop_before(1_000_000).await, 1);
    assert_eq!(drop_before(1_000_000).await, 0);
    assert_eq!(session.files_at(&*store, None).await, Some(3));
}

pub(in crate::store) async fn files_are_their_accounts_own(store: Arc<dyn Store>) {
    let (one, other) = (Session::first(&*store, 1).await, Session::first(&*store, 2).await);
    for (fill, at) in [(1, 1), (2, 2)] {
        store.put_files(one.files(fill, 302, later(at))).await.unwrap();
    }
    assert_eq!(other.files_at(&*store, None).await, None);
    assert_eq!(store.drop_old_files(other.account, later(9)).await.unwrap(), 0);
    assert_eq!(one.files_at(&*store, Some(later(1))).await, Some(1));
}
