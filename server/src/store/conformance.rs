//! The rules of [`Store`], each stated once and run against every database: see [`for_every_rule`].

use super::*;
use backstop_protocol::{
    api::{MISSING_MAX, PADDED_MIN},
    grant::Grant,
    id::TimelineId,
    pack::PACK_PREAMBLE_LEN,
    record::{RECORD_MIN, RecordKind, TAG_LEN, record_hash},
};
use std::sync::Arc;

/// Hands the names of all rules to a macro, which makes a test of each: `async fn rule(store: Arc<dyn Store>)`.
macro_rules! for_every_rule {
    ($run:ident) => {
        $run! {
            an_append_opening_with_a_good_grant_makes_the_account,
            who_shows_no_grant_does_not_learn_whether_there_is_an_account,
            a_read_opening_of_an_unknown_account_is_not_found_and_makes_none,
            a_grant_once_shown_suffices_for_its_key_and_for_no_other,
            grants_are_listed_by_key_the_highest_serial_first,
            a_grant_below_the_floor_is_revoked_and_the_floor_never_falls,
            an_expired_grant_is_refused_shown_or_remembered,
            a_read_grant_opens_no_append_session,
            a_refused_opening_leaves_no_trace,
            the_writers_own_claim_succeeds_again_at_any_time,
            a_claim_that_expects_another_epoch_learns_the_epoch_and_the_head,
            another_instance_must_say_that_it_takes_over,
            one_node_on_two_networks_is_two_accounts,
            an_appended_record_is_the_head_and_comes_back_as_it_came,
            the_same_bytes_again_succeed_and_change_nothing,
            a_record_that_does_not_continue_the_chain_is_refused_and_changes_nothing,
            a_record_of_another_timeline_is_refused,
            a_fenced_run_appends_nothing_not_even_what_is_there,
            an_append_to_no_account_is_not_found,
            a_higher_epoch_replaces_the_last_record_and_no_other,
            the_very_first_record_can_be_replaced_too,
            an_older_record_may_be_copied_by_a_newer_writer,
            a_page_ends_at_its_limit_but_holds_at_least_one_record,
            twenty_nodes_append_at_once_and_each_has_its_own_chain,
            of_two_racing_records_of_one_seq_one_wins,
            the_same_record_sent_many_times_at_once_is_there_once,
            a_refused_append_does_not_spoil_those_beside_it,
            chunks_are_located_in_the_order_asked_for,
            a_chunk_keeps_its_first_place,
            a_complete_snapshot_is_listed_with_its_size,
            a_snapshot_that_lacks_chunks_names_them_and_is_not_there,
            only_so_many_missing_chunks_are_named,
            a_snapshot_rests_on_a_record_of_the_log,
            a_fenced_run_commits_no_snapshot,
            a_commit_as_a_difference_has_the_parents_chunks_and_its_own,
            a_commit_that_is_no_difference_to_its_parent_is_refused,
            the_same_commit_again_succeeds_and_another_of_its_name_does_not,
            the_highest_base_is_listed_first,
            a_snapshot_whose_base_was_replaced_is_listed_no_more,
            an_account_sees_nothing_of_another,
            a_closed_store_refuses,
        }
    };
}
pub(super) use for_every_rule;

const NOW: UnixMillis = UnixMillis(1_000_000);

fn later(millis: u64) -> UnixMillis {
    UnixMillis(NOW.0 + millis)
}

fn grant(node: u8, key: u8, scope: Scope, serial: u64) -> ShownGrant {
    let grant = Grant {
        access_key: AccessKey([key; 32]),
        scope,
        node: NodeId([node; 33]),
        network: Network::Regtest,
        serial,
        expires_at: None,
    };
    shown(grant)
}

fn shown(grant: Grant) -> ShownGrant {
    let signed = SignedGrant {
        text: grant.to_string(),
        signature: "y".repeat(104),
    };
    ShownGrant { grant, signed }
}

fn claim(instance: u8, run: u8, expected_epoch: u64, epoch: u64) -> WriterClaim {
    WriterClaim {
        instance: InstanceId([instance; 16]),
        run: RunId([run; 16]),
        expected_epoch,
        epoch,
        takeover: false,
    }
}

fn takeover(claim: WriterClaim) -> WriterClaim {
    WriterClaim {
        takeover: true,
        ..claim
    }
}

fn append_request(node: u8, grant: Option<ShownGrant>, claim: WriterClaim) -> SessionRequest {
    SessionRequest {
        node: NodeId([node; 33]),
        network: Network::Regtest,
        access_key: AccessKey([node; 32]),
        scope: Scope::Append,
        grant,
        claim: Some(claim),
        now: NOW,
    }
}

fn read_request(node: u8, grant: Option<ShownGrant>) -> SessionRequest {
    SessionRequest {
        scope: Scope::Read,
        claim: None,
        ..append_request(node, grant, claim(0, 0, 0, 0))
    }
}

fn refusal<T: fmt::Debug>(outcome: Result<T, StoreError>) -> Refusal {
    match outcome {
        Err(StoreError::Refused(refusal)) => refusal,
        other => panic!("not a refusal: {other:?}"),
    }
}

/// An open append session and the chain it writes.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) account: AccountId,
    writer: Writer,
    timeline: TimelineId,
    head: Head,
}

impl Session {
    /// Opens an account's first session, at epoch 1. Node, key, instance and run are named alike.
    pub(super) async fn first(store: &dyn Store, node: u8) -> Self {
        Self::open(store, node, claim(node, node, 0, 1)).await
    }

    async fn open(store: &dyn Store, node: u8, claim: WriterClaim) -> Self {
        let request = append_request(node, Some(grant(node, node, Scope::Append, 1)), claim);
        let (account, state) = store.open_session(request).await.unwrap();
        Self {
            account,
            writer: Writer::from(&claim),
            timeline: TimelineId([node; 16]),
            head: state.head,
        }
    }

    /// A record of any place; `fill` makes its bytes differ.
    pub(super) fn record(&self, seq: u64, prev: RecordHash, fill: u8, len: usize) -> Append {
        let header = RecordHeader {
            kind: RecordKind::Batch,
            timeline: self.timeline,
            epoch: self.writer.epoch,
            seq,
            prev,
            nonce: [fill; 24],
        };
        let mut sealed = header.encode();
        sealed.resize(len, fill);
        Append {
            account: self.account,
            writer: self.writer,
            header,
            hash: record_hash(&sealed),
            sealed: sealed.into(),
            now: NOW,
        }
    }

    /// The record that comes next.
    pub(super) fn next(&self, fill: u8) -> Append {
        self.record(self.head.seq + 1, self.head.hash, fill, RECORD_MIN)
    }

    /// Appends the record that comes next.
    pub(super) async fn append(&mut self, store: &dyn Store, fill: u8) -> Append {
        let append = self.next(fill);
        self.head = store.append(append.clone()).await.unwrap();
        assert_eq!(self.head, append.header.head(append.hash));
        append
    }

    /// Goes on as if that record were the head.
    pub(super) fn assume(&mut self, append: &Append) {
        self.head = append.header.head(append.hash);
    }

    async fn state(&self, store: &dyn Store) -> AccountState {
        store.account(self.account, NOW).await.unwrap()
    }

    async fn log(&self, store: &dyn Store) -> Vec<Vec<u8>> {
        let records = store.records(self.account, 0, usize::MAX).await.unwrap();
        records.into_iter().map(|record| record.sealed).collect()
    }

    /// Indexes a pack of chunks of 300 bytes each.
    async fn pack(&self, store: &dyn Store, pack: u8, chunks: &[u8]) {
        let mut offset = u32::try_from(PACK_PREAMBLE_LEN).unwrap();
        let mut entries = Vec::new();
        for id in chunks {
            entries.push(ChunkEntry {
                id: ChunkId([*id; 32]),
                offset: offset + 36,
                len: 300,
            });
            offset += 336;
        }
        let index = PackIndex {
            account: self.account,
            pack: PackId([pack; 32]),
            bytes: offset.into(),
            chunks: entries,
            now: NOW,
        };
        store.index_pack(index).await.unwrap();
    }

    /// A commit on top of the head.
    fn commit(&self, snapshot: u8, parent: Option<u8>, added: &[u8], removed: &[u8]) -> Commit {
        let header = ManifestHeader {
            timeline: self.timeline,
            snapshot: SnapshotId([snapshot; 16]),
            base_seq: self.head.seq,
            base_hash: self.head.hash,
            nonce: [snapshot; 24],
        };
        let mut manifest = header.encode();
        manifest.resize(manifest.len() + PADDED_MIN + TAG_LEN, snapshot);
        let ids = |list: &[u8]| list.iter().map(|id| ChunkId([*id; 32])).collect();
        Commit {
            account: self.account,
            writer: self.writer,
            header,
            commit: SnapshotCommit {
                manifest,
                parent: parent.map(|parent| SnapshotId([parent; 16])),
                added: ids(added),
                removed: ids(removed),
            },
            now: NOW,
        }
    }
}

pub(super) async fn an_append_opening_with_a_good_grant_makes_the_account(store: Arc<dyn Store>) {
    let request = append_request(1, Some(grant(1, 1, Scope::Append, 1)), claim(2, 3, 0, 4));
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
        time: NOW,
    };
    assert_eq!(state, want);
    assert_eq!(store.account(account, NOW).await.unwrap(), want);
}

pub(super) async fn who_shows_no_grant_does_not_learn_whether_there_is_an_account(store: Arc<dyn Store>) {
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

pub(super) async fn a_read_opening_of_an_unknown_account_is_not_found_and_makes_none(store: Arc<dyn Store>) {
    for _ in 0..2 {
        let request = read_request(1, Some(grant(1, 1, Scope::Append, 1)));
        assert_eq!(refusal(store.open_session(request).await), Refusal::NotFound);
    }
}

pub(super) async fn a_grant_once_shown_suffices_for_its_key_and_for_no_other(store: Arc<dyn Store>) {
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

pub(super) async fn grants_are_listed_by_key_the_highest_serial_first(store: Arc<dyn Store>) {
    Session::first(&*store, 1).await;
    for serial in [5, 3, 3] {
        let request = read_request(1, Some(grant(1, 1, Scope::Read, serial)));
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

pub(super) async fn a_grant_below_the_floor_is_revoked_and_the_floor_never_falls(store: Arc<dyn Store>) {
    let session = Session::first(&*store, 1).await;
    store.raise_grant_floor(session.account, 7).await.unwrap();
    store.raise_grant_floor(session.account, 2).await.unwrap();
    let open = async |grant| store.open_session(read_request(1, grant)).await;
    assert_eq!(refusal(open(None).await), Refusal::GrantRevoked);
    assert_eq!(
        refusal(open(Some(grant(1, 1, Scope::Read, 6))).await),
        Refusal::GrantRevoked
    );
    assert!(open(Some(grant(1, 1, Scope::Read, 7))).await.is_ok());
    assert!(open(None).await.is_ok());
    let nobody = store.raise_grant_floor(AccountId(99), 1).await;
    assert_eq!(refusal(nobody), Refusal::NotFound);
}

pub(super) async fn an_expired_grant_is_refused_shown_or_remembered(store: Arc<dyn Store>) {
    let until = shown(Grant {
        expires_at: Some(NOW.as_secs()),
        ..grant(1, 1, Scope::Append, 1).grant
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

pub(super) async fn a_read_grant_opens_no_append_session(store: Arc<dyn Store>) {
    let narrow = Some(grant(1, 1, Scope::Read, 1));
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

pub(super) async fn a_refused_opening_leaves_no_trace(store: Arc<dyn Store>) {
    let wrong_epoch = append_request(1, Some(grant(1, 1, Scope::Append, 1)), claim(1, 1, 5, 6));
    let refused = store.open_session(wrong_epoch).await;
    assert!(matches!(
        refusal(refused),
        Refusal::EpochMismatch { epoch: 0, .. }
    ));
    assert_eq!(store.grants(AccessKey([1; 32])).await.unwrap(), []);
    let read = read_request(1, Some(grant(1, 1, Scope::Append, 1)));
    assert_eq!(refusal(store.open_session(read).await), Refusal::NotFound);

    let session = Session::first(&*store, 1).await;
    let before = session.state(&*store).await;
    let not_above = append_request(1, Some(grant(1, 1, Scope::Append, 2)), claim(1, 2, 1, 1));
    assert!(matches!(
        refusal(store.open_session(not_above).await),
        Refusal::BadClaim(_)
    ));
    assert_eq!(session.state(&*store).await, before);
    assert_eq!(store.grants(AccessKey([1; 32])).await.unwrap().len(), 1);
}

pub(super) async fn the_writers_own_claim_succeeds_again_at_any_time(store: Arc<dyn Store>) {
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

pub(super) async fn a_claim_that_expects_another_epoch_learns_the_epoch_and_the_head(store: Arc<dyn Store>) {
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

pub(super) async fn another_instance_must_say_that_it_takes_over(store: Arc<dyn Store>) {
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

pub(super) async fn one_node_on_two_networks_is_two_accounts(store: Arc<dyn Store>) {
    let regtest = Session::first(&*store, 1).await;
    let on_signet = shown(Grant {
        network: Network::Signet,
        ..grant(1, 1, Scope::Append, 1).grant
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

pub(super) async fn an_appended_record_is_the_head_and_comes_back_as_it_came(store: Arc<dyn Store>) {
    let mut session = Session::first(&*store, 1).await;
    let first = Append {
        now: later(1),
        ..session.next(1)
    };
    session.head = store.append(first.clone()).await.unwrap();
    let second = Append {
        now: later(2),
        ..session.record(2, first.hash, 2, 5000)
    };
    session.head = store.append(second.clone()).await.unwrap();
    let state = session.state(&*store).await;
    assert_eq!(state.head, second.header.head(second.hash));
    assert_eq!(state.timeline, Some(session.timeline));
    assert_eq!((state.first_seq, state.log_bytes), (1, RECORD_MIN as u64 + 5000));
    assert_eq!(
        (state.head_received_at, state.writer_seen_at),
        (Some(later(2)), Some(later(2)))
    );
    assert_eq!(state.writer_since, Some(NOW));
    let stored = |append: &Append| StoredRecord {
        received_at: append.now,
        sealed: append.sealed.to_vec(),
    };
    let all = store.records(session.account, 1, usize::MAX).await.unwrap();
    assert_eq!(all, [stored(&first), stored(&second)]);
    let tail = store.records(session.account, 2, usize::MAX).await.unwrap();
    assert_eq!(tail, [stored(&second)]);
    assert_eq!(store.records(session.account, 3, usize::MAX).await.unwrap(), []);
    assert_eq!(
        store
            .records(session.account, u64::MAX, usize::MAX)
            .await
            .unwrap(),
        []
    );
}

pub(super) async fn the_same_bytes_again_succeed_and_change_nothing(store: Arc<dyn Store>) {
    let mut session = Session::first(&*store, 1).await;
    let mut records = Vec::new();
    for fill in 1..=3 {
        records.push(session.append(&*store, fill).await);
    }
    let (before, log) = (session.state(&*store).await, session.log(&*store).await);
    for record in records {
        let again = Append {
            now: later(9),
            ..record
        };
        assert_eq!(store.append(again).await.unwrap(), session.head);
    }
    assert_eq!(session.state(&*store).await, before);
    assert_eq!(session.log(&*store).await, log);
}

pub(super) async fn a_record_that_does_not_continue_the_chain_is_refused_and_changes_nothing(
    store: Arc<dyn Store>,
) {
    let mut session = Session::first(&*store, 1).await;
    let skips_the_first = session.record(2, RecordHash([1; 32]), 1, RECORD_MIN);
    let refused = store.append(skips_the_first).await;
    assert_eq!(refusal(refused), Refusal::NotNext { head: Head::EMPTY });
    assert_eq!(session.state(&*store).await.timeline, None);
    let first = session.append(&*store, 1).await;
    let second = session.append(&*store, 2).await;
    let (before, log) = (session.state(&*store).await, session.log(&*store).await);
    let mut ahead = session.next(3);
    ahead.header.epoch = 2;
    let wrong = [
        session.record(4, second.hash, 3, RECORD_MIN),
        session.record(3, first.hash, 3, RECORD_MIN),
        session.record(2, first.hash, 3, RECORD_MIN),
        session.record(1, RecordHash::NONE, 3, RECORD_MIN),
        ahead,
    ];
    for record in wrong {
        let refused = store.append(record).await;
        assert_eq!(refusal(refused), Refusal::NotNext { head: session.head });
    }
    assert_eq!(session.state(&*store).await, before);
    assert_eq!(session.log(&*store).await, log);
}

pub(super) async fn a_record_of_another_timeline_is_refused(store: Arc<dyn Store>) {
    let mut session = Session::first(&*store, 1).await;
    session.append(&*store, 1).await;
    let elsewhere = Session {
        timeline: TimelineId([9; 16]),
        ..session.clone()
    };
    assert_eq!(
        refusal(store.append(elsewhere.next(2)).await),
        Refusal::WrongTimeline
    );
    assert_eq!(session.state(&*store).await.timeline, Some(session.timeline));
}

pub(super) async fn a_fenced_run_appends_nothing_not_even_what_is_there(store: Arc<dyn Store>) {
    let mut old = Session::first(&*store, 1).await;
    let there = old.append(&*store, 1).await;
    // The same lightning-dir, its next run.
    Session::open(&*store, 1, claim(1, 2, 1, 2)).await;
    let fenced = Refusal::Fenced {
        epoch: 2,
        since: Some(NOW),
    };
    assert_eq!(refusal(store.append(there).await), fenced);
    assert_eq!(refusal(store.append(old.next(2)).await), fenced);
}

pub(super) async fn an_append_to_no_account_is_not_found(store: Arc<dyn Store>) {
    let nobody = Session {
        account: AccountId(99),
        ..Session::first(&*store, 1).await
    };
    assert_eq!(refusal(store.append(nobody.next(1)).await), Refusal::NotFound);
    assert_eq!(
        refusal(store.account(nobody.account, NOW).await),
        Refusal::NotFound
    );
}

pub(super) async fn a_higher_epoch_replaces_the_last_record_and_no_other(store: Arc<dyn Store>) {
    let mut old = Session::first(&*store, 1).await;
    let first = old.append(&*store, 1).await;
    let second = old.append(&*store, 2).await;
    let mut new = Session::open(&*store, 1, claim(1, 2, 1, 2)).await;
    let not_the_last = new.record(1, RecordHash::NONE, 3, RECORD_MIN);
    assert!(matches!(
        refusal(store.append(not_the_last).await),
        Refusal::NotNext { .. }
    ));
    let replacing = new.record(2, first.hash, 3, RECORD_MIN + 10);
    new.head = store.append(replacing.clone()).await.unwrap();
    assert_eq!(new.head, replacing.header.head(replacing.hash));
    assert_eq!(
        new.log(&*store).await,
        [first.sealed.to_vec(), replacing.sealed.to_vec()]
    );
    assert_eq!(new.state(&*store).await.log_bytes, 2 * RECORD_MIN as u64 + 10);
    // The replaced one is on the chain no more.
    let back = Append {
        writer: new.writer,
        ..second
    };
    assert_eq!(
        refusal(store.append(back).await),
        Refusal::NotNext { head: new.head }
    );
    assert_eq!(store.append(replacing).await.unwrap(), new.head);
    new.append(&*store, 4).await;
}

pub(super) async fn the_very_first_record_can_be_replaced_too(store: Arc<dyn Store>) {
    Session::first(&*store, 1).await.append(&*store, 1).await;
    let mut new = Session::open(&*store, 1, claim(1, 2, 1, 2)).await;
    let replacing = new.record(1, RecordHash::NONE, 2, RECORD_MIN);
    new.head = store.append(replacing.clone()).await.unwrap();
    new.append(&*store, 3).await;
    let state = new.state(&*store).await;
    assert_eq!((state.first_seq, state.head.seq, state.head.epoch), (1, 2, 2));
}

pub(super) async fn an_older_record_may_be_copied_by_a_newer_writer(store: Arc<dyn Store>) {
    // As from another server that had it: the record's epoch is below the session's.
    let written_at_epoch_1 = Session::first(&*store, 1).await.next(1);
    let copying = Session::open(&*store, 1, claim(1, 2, 1, 5)).await;
    let copied = Append {
        writer: copying.writer,
        ..written_at_epoch_1
    };
    let head = store.append(copied.clone()).await.unwrap();
    assert_eq!(head, copied.header.head(copied.hash));
}

pub(super) async fn a_page_ends_at_its_limit_but_holds_at_least_one_record(store: Arc<dyn Store>) {
    let mut session = Session::first(&*store, 1).await;
    for len in [1000, 1000, 5000, 1000] {
        let record = session.record(session.head.seq + 1, session.head.hash, 1, len);
        session.head = store.append(record).await.unwrap();
    }
    let page = async |from, max_bytes| {
        let records = store.records(session.account, from, max_bytes).await.unwrap();
        records
            .iter()
            .map(|record| record.sealed.len())
            .collect::<Vec<_>>()
    };
    assert_eq!(page(1, 2000).await, [1000, 1000]);
    assert_eq!(page(1, 1999).await, [1000]);
    assert_eq!(page(2, 5999).await, [1000]);
    assert_eq!(page(3, 10).await, [5000]);
    assert_eq!(page(3, 6000).await, [5000, 1000]);
    assert_eq!(page(1, 0).await, [1000]);
}

pub(super) async fn twenty_nodes_append_at_once_and_each_has_its_own_chain(store: Arc<dyn Store>) {
    let mut nodes = Vec::new();
    for node in 1..=20 {
        let mut session = Session::first(&*store, node).await;
        let store = store.clone();
        nodes.push(tokio::spawn(async move {
            let mut sent = Vec::new();
            for fill in 1..=30 {
                sent.push(session.append(&*store, fill).await.sealed.to_vec());
            }
            (session, sent)
        }));
    }
    for node in nodes {
        let (session, sent) = node.await.unwrap();
        assert_eq!(session.log(&*store).await, sent);
        assert_eq!(session.state(&*store).await.head, session.head);
    }
}

pub(super) async fn of_two_racing_records_of_one_seq_one_wins(store: Arc<dyn Store>) {
    let mut session = Session::first(&*store, 1).await;
    for round in 0..20 {
        let (one, other) = (session.next(2 * round), session.next(2 * round + 1));
        let (first, second) = tokio::join!(store.append(one.clone()), store.append(other.clone()));
        let (winner, head, loser) = match (first, second) {
            (Ok(head), loser) => (one, head, loser),
            (loser, Ok(head)) => (other, head, loser),
            neither => panic!("neither won: {neither:?}"),
        };
        assert_eq!(refusal(loser), Refusal::NotNext { head });
        assert_eq!(head, winner.header.head(winner.hash));
        assert_eq!(
            session.log(&*store).await.last().unwrap(),
            &winner.sealed.to_vec()
        );
        session.head = head;
    }
}

pub(super) async fn the_same_record_sent_many_times_at_once_is_there_once(store: Arc<dyn Store>) {
    let session = Session::first(&*store, 1).await;
    let record = session.next(1);
    let sent: Vec<_> = (0..16)
        .map(|_| {
            let (store, record) = (store.clone(), record.clone());
            tokio::spawn(async move { store.append(record).await })
        })
        .collect();
    for one in sent {
        assert_eq!(one.await.unwrap().unwrap(), record.header.head(record.hash));
    }
    assert_eq!(session.log(&*store).await, [record.sealed.to_vec()]);
}

pub(super) async fn a_refused_append_does_not_spoil_those_beside_it(store: Arc<dyn Store>) {
    let mut sessions = Vec::new();
    for node in 1..=10 {
        sessions.push(Session::first(&*store, node).await);
    }
    let sent: Vec<_> = sessions
        .iter()
        .enumerate()
        .map(|(at, session)| {
            let record = match at % 2 {
                0 => session.next(1),
                _ => session.record(7, RecordHash([7; 32]), 1, RECORD_MIN),
            };
            let store = store.clone();
            tokio::spawn(async move { store.append(record).await })
        })
        .collect();
    for (at, one) in sent.into_iter().enumerate() {
        match (at % 2, one.await.unwrap()) {
            (0, outcome) => assert_eq!(outcome.unwrap().seq, 1),
            (_, outcome) => assert_eq!(refusal(outcome), Refusal::NotNext { head: Head::EMPTY }),
        }
    }
    for (at, session) in sessions.iter().enumerate() {
        assert_eq!(session.log(&*store).await.len(), 1 - at % 2);
    }
}

pub(super) async fn chunks_are_located_in_the_order_asked_for(store: Arc<dyn Store>) {
    let session = Session::first(&*store, 1).await;
    session.pack(&*store, 1, &[10, 20]).await;
    session.pack(&*store, 2, &[30]).await;
    let ids = [30, 99, 10, 20, 10].map(|id| ChunkId([id; 32])).to_vec();
    let place = |pack, offset| {
        Some(ChunkPlace {
            pack: PackId([pack; 32]),
            offset,
            len: 300,
        })
    };
    let places = store.locate(session.account, ids).await.unwrap();
    assert_eq!(
        places,
        [place(2, 42), None, place(1, 42), place(1, 378), place(1, 42)]
    );
    assert_eq!(store.locate(session.account, vec![]).await.unwrap(), []);
}

pub(super) async fn a_chunk_keeps_its_first_place(store: Arc<dyn Store>) {
    let session = Session::first(&*store, 1).await;
    session.pack(&*store, 1, &[10]).await;
    session.pack(&*store, 2, &[20, 10]).await;
    session.pack(&*store, 1, &[10]).await;
    let ids = vec![ChunkId([10; 32]), ChunkId([20; 32])];
    let places = store.locate(session.account, ids).await.unwrap();
    let packs: Vec<_> = places.into_iter().map(|place| place.unwrap().pack).collect();
    assert_eq!(packs, [PackId([1; 32]), PackId([2; 32])]);
}

pub(super) async fn a_complete_snapshot_is_listed_with_its_size(store: Arc<dyn Store>) {
    let mut session = Session::first(&*store, 1).await;
    session.append(&*store, 1).await;
    session.pack(&*store, 1, &[10, 20, 30]).await;
    let commit = session.commit(1, None, &[10, 30], &[]);
    let info = store.commit_snapshot(commit.clone()).await.unwrap();
    let want = SnapshotInfo {
        snapshot: SnapshotId([1; 16]),
        base_seq: 1,
        base_hash: session.head.hash,
        committed_at: NOW,
        bytes: 600,
    };
    assert_eq!(info, want);
    assert_eq!(store.snapshots(session.account).await.unwrap(), [want]);
    assert_eq!(session.state(&*store).await.snapshot, Some(want));
    let manifest = async |id| {
        store
            .manifest(session.account, SnapshotId([id; 16]))
            .await
            .unwrap()
    };
    assert_eq!(manifest(1).await, Some(commit.commit.manifest));
    assert_eq!(manifest(2).await, None);
}

pub(super) async fn a_snapshot_that_lacks_chunks_names_them_and_is_not_there(store: Arc<dyn Store>) {
    let mut session = Session::first(&*store, 1).await;
    session.append(&*store, 1).await;
    session.pack(&*store, 1, &[20]).await;
    let refused = store
        .commit_snapshot(session.commit(1, None, &[10, 20, 30], &[]))
        .await;
    let missing = vec![ChunkId([10; 32]), ChunkId([30; 32])];
    assert_eq!(refusal(refused), Refusal::ChunksMissing(missing));
    assert_eq!(store.snapshots(session.account).await.unwrap(), []);
    session.pack(&*store, 2, &[10, 30]).await;
    let info = store
        .commit_snapshot(session.commit(1, None, &[10, 20, 30], &[]))
        .await
        .unwrap();
    assert_eq!(info.bytes, 900);
}

pub(super) async fn only_so_many_missing_chunks_are_named(store: Arc<dyn Store>) {
    let mut session = Session::first(&*store, 1).await;
    session.append(&*store, 1).await;
    let mut commit = session.commit(1, None, &[], &[]);
    commit.commit.added = (0..40_000_u32)
        .map(|number| {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&number.to_be_bytes());
            ChunkId(id)
        })
        .collect();
    let want = Refusal::ChunksMissing(commit.commit.added[..MISSING_MAX].to_vec());
    assert_eq!(refusal(store.commit_snapshot(commit).await), want);
}

pub(super) async fn a_snapshot_rests_on_a_record_of_the_log(store: Arc<dyn Store>) {
    let mut session = Session::first(&*store, 1).await;
    session.pack(&*store, 1, &[10]).await;
    let early = Session {
        head: Head {
            epoch: 1,
            seq: 1,
            hash: RecordHash([5; 32]),
        },
        ..session.clone()
    };
    let not_on_chain = |session: &Session| Refusal::NotOnChain {
        seq: session.head.seq,
        hash: session.head.hash,
    };
    let refused = store.commit_snapshot(early.commit(1, None, &[10], &[])).await;
    assert_eq!(refusal(refused), not_on_chain(&early));
    session.append(&*store, 1).await;
    let refused = store.commit_snapshot(early.commit(1, None, &[10], &[])).await;
    assert_eq!(refusal(refused), not_on_chain(&early));
    let mut elsewhere = session.commit(1, None, &[10], &[]);
    elsewhere.header.timeline = TimelineId([9; 16]);
    assert_eq!(
        refusal(store.commit_snapshot(elsewhere).await),
        Refusal::WrongTimeline
    );
    let orphan = session.commit(1, Some(7), &[10], &[]);
    assert_eq!(refusal(store.commit_snapshot(orphan).await), Refusal::NotFound);
    assert_eq!(store.snapshots(session.account).await.unwrap(), []);
}

pub(super) async fn a_fenced_run_commits_no_snapshot(store: Arc<dyn Store>) {
    let mut old = Session::first(&*store, 1).await;
    old.append(&*store, 1).await;
    old.pack(&*store, 1, &[10]).await;
    Session::open(&*store, 1, takeover(claim(2, 2, 1, 2))).await;
    let refused = store.commit_snapshot(old.commit(1, None, &[10], &[])).await;
    assert!(matches!(refusal(refused), Refusal::Fenced { epoch: 2, .. }));
}

pub(super) async fn a_commit_as_a_difference_has_the_parents_chunks_and_its_own(store: Arc<dyn Store>) {
    let mut session = Session::first(&*store, 1).await;
    session.append(&*store, 1).await;
    session.pack(&*store, 1, &[10, 20, 30, 40]).await;
    let bytes = async |commit| store.commit_snapshot(commit).await.unwrap().bytes;
    assert_eq!(bytes(session.commit(1, None, &[10, 20, 30], &[])).await, 900);
    assert_eq!(bytes(session.commit(2, Some(1), &[40], &[10, 20])).await, 600);
    assert_eq!(bytes(session.commit(3, Some(2), &[10], &[])).await, 900);
    // 3 is {10, 30, 40}: taking these away leaves nothing, and the others are not there to be taken.
    assert_eq!(bytes(session.commit(4, Some(3), &[], &[10, 30, 40])).await, 0);
    let refused = store
        .commit_snapshot(session.commit(5, Some(3), &[], &[20]))
        .await;
    assert!(matches!(refusal(refused), Refusal::BadCommit(_)));
}

pub(super) async fn a_commit_that_is_no_difference_to_its_parent_is_refused(store: Arc<dyn Store>) {
    let mut session = Session::first(&*store, 1).await;
    session.append(&*store, 1).await;
    session.pack(&*store, 1, &[10, 20]).await;
    store
        .commit_snapshot(session.commit(1, None, &[10], &[]))
        .await
        .unwrap();
    let has_it = session.commit(2, Some(1), &[10], &[]);
    assert!(matches!(
        refusal(store.commit_snapshot(has_it).await),
        Refusal::BadCommit(_)
    ));
    let lacks_it = session.commit(2, Some(1), &[], &[20]);
    assert!(matches!(
        refusal(store.commit_snapshot(lacks_it).await),
        Refusal::BadCommit(_)
    ));
    assert_eq!(store.snapshots(session.account).await.unwrap().len(), 1);
}

pub(super) async fn the_same_commit_again_succeeds_and_another_of_its_name_does_not(store: Arc<dyn Store>) {
    let mut session = Session::first(&*store, 1).await;
    session.append(&*store, 1).await;
    session.pack(&*store, 1, &[10]).await;
    let commit = session.commit(1, None, &[10], &[]);
    let info = store.commit_snapshot(commit.clone()).await.unwrap();
    let again = Commit {
        now: later(5),
        ..commit.clone()
    };
    assert_eq!(store.commit_snapshot(again).await.unwrap(), info);
    let mut other = commit;
    *other.commit.manifest.last_mut().unwrap() ^= 1;
    assert!(matches!(
        refusal(store.commit_snapshot(other).await),
        Refusal::BadCommit(_)
    ));
    assert_eq!(store.snapshots(session.account).await.unwrap(), [info]);
}

pub(super) async fn the_highest_base_is_listed_first(store: Arc<dyn Store>) {
    let mut session = Session::first(&*store, 1).await;
    session.append(&*store, 1).await;
    session.pack(&*store, 1, &[10]).await;
    let low = session.clone();
    session.append(&*store, 2).await;
    for commit in [
        session.commit(1, None, &[10], &[]),
        session.commit(2, None, &[10], &[]),
        low.commit(3, None, &[10], &[]),
    ] {
        store.commit_snapshot(commit).await.unwrap();
    }
    let listed = store.snapshots(session.account).await.unwrap();
    let names: Vec<_> = listed.iter().map(|info| info.snapshot.0[0]).collect();
    assert_eq!(names, [2, 1, 3]);
    assert_eq!(session.state(&*store).await.snapshot, listed.first().copied());
}

pub(super) async fn a_snapshot_whose_base_was_replaced_is_listed_no_more(store: Arc<dyn Store>) {
    let mut old = Session::first(&*store, 1).await;
    let first = old.append(&*store, 1).await;
    old.pack(&*store, 1, &[10]).await;
    let kept = store
        .commit_snapshot(old.commit(1, None, &[10], &[]))
        .await
        .unwrap();
    old.append(&*store, 2).await;
    store
        .commit_snapshot(old.commit(2, None, &[10], &[]))
        .await
        .unwrap();
    let new = Session::open(&*store, 1, claim(1, 2, 1, 2)).await;
    store
        .append(new.record(2, first.hash, 3, RECORD_MIN))
        .await
        .unwrap();
    assert_eq!(store.snapshots(new.account).await.unwrap(), [kept]);
    assert_eq!(new.state(&*store).await.snapshot, Some(kept));
}

pub(super) async fn an_account_sees_nothing_of_another(store: Arc<dyn Store>) {
    let mut one = Session::first(&*store, 1).await;
    one.append(&*store, 1).await;
    one.pack(&*store, 1, &[10]).await;
    store
        .commit_snapshot(one.commit(1, None, &[10], &[]))
        .await
        .unwrap();
    let mut other = Session::first(&*store, 2).await;
    assert_eq!(store.records(other.account, 1, usize::MAX).await.unwrap(), []);
    assert_eq!(
        store
            .locate(other.account, vec![ChunkId([10; 32])])
            .await
            .unwrap(),
        [None]
    );
    assert_eq!(store.snapshots(other.account).await.unwrap(), []);
    assert_eq!(
        store.manifest(other.account, SnapshotId([1; 16])).await.unwrap(),
        None
    );
    other.append(&*store, 1).await;
    let borrowed = store.commit_snapshot(other.commit(2, None, &[10], &[])).await;
    assert_eq!(refusal(borrowed), Refusal::ChunksMissing(vec![ChunkId([10; 32])]));
    let inherited = store.commit_snapshot(other.commit(2, Some(1), &[], &[])).await;
    assert_eq!(refusal(inherited), Refusal::NotFound);
    // Equal names are no conflict.
    other.pack(&*store, 1, &[10]).await;
    store
        .commit_snapshot(other.commit(1, None, &[10], &[]))
        .await
        .unwrap();
}

pub(super) async fn a_closed_store_refuses(store: Arc<dyn Store>) {
    let session = Session::first(&*store, 1).await;
    store.close().await;
    store.close().await;
    assert!(matches!(
        store.append(session.next(1)).await,
        Err(StoreError::Unavailable(_))
    ));
    assert!(matches!(
        store.account(session.account, NOW).await,
        Err(StoreError::Unavailable(_))
    ));
    assert!(matches!(store.ping().await, Err(StoreError::Unavailable(_))));
}
