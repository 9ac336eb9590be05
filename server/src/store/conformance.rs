//! The rules of [`Store`], each stated once and run against every database: see [`for_every_rule`].

mod admission;
mod alarms;
mod appends;
mod files;
mod gauges;
mod history;
mod leaving;
mod mirrors;
mod openings;
mod packs;
mod pages;
mod room;
mod scrub;
mod snapshots;
mod tenants;
mod writing;

pub(super) use admission::*;
pub(super) use alarms::*;
pub(super) use appends::*;
pub(super) use files::*;
pub(super) use gauges::*;
pub(super) use history::*;
pub(super) use leaving::*;
pub(super) use mirrors::*;
pub(super) use openings::*;
pub(super) use packs::*;
pub(super) use pages::*;
pub(super) use room::*;
pub(super) use scrub::*;
pub(super) use snapshots::*;
pub(super) use tenants::for_every_rule_of_tenants;
pub(crate) use writing::{Session, claim, sealed_pack};

use super::*;
use backstop_protocol::{
    api::{MISSING_MAX, PADDED_MIN, Proof, ProofReport},
    grant::{Grant, Scope},
    head::Head,
    id::{InstanceId, Network, NodeId, RunId, TimelineId},
    pack::PACK_PREAMBLE_LEN,
    record::{RECORD_MIN, RecordKind, TAG_LEN, record_hash},
    session::WriterClaim,
};
use std::sync::Arc;
use writing::*;

/// Hands the names of all rules to a macro, which makes a test of each: `async fn rule(store: Arc<dyn Store>)`.
macro_rules! for_every_rule {
    ($run:ident) => {
        $run! {
            an_append_opening_with_a_good_grant_makes_the_account,
            who_shows_no_grant_does_not_learn_whether_there_is_an_account,
            a_grant_to_append_makes_the_account_and_one_to_read_does_not,
            a_grant_once_shown_suffices_for_its_key_and_for_no_other,
            grants_are_listed_by_key_the_highest_serial_first,
            a_grant_below_the_floor_is_revoked_and_the_floor_never_falls,
            an_expired_grant_is_refused_shown_or_remembered,
            a_read_grant_opens_no_append_session,
            a_refused_opening_leaves_no_trace,
            the_writers_own_claim_succeeds_again_at_any_time,
            a_claim_that_expects_another_epoch_learns_the_epoch_and_the_head,
            another_instance_must_say_that_it_takes_over,
            an_instance_that_wrote_nothing_gives_way_to_any_other,
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
            a_log_that_holds_nothing_begins_with_any_record,
            a_branch_that_never_counted_gives_way_to_a_later_writers_copies,
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
            a_long_log_asks_for_a_roll_up_until_a_snapshot_stands_above_it,
            an_old_log_asks_for_a_roll_up_however_short_it_is,
            a_replaced_record_asks_for_nothing_any_more,
            a_snapshot_that_left_the_chain_counts_for_no_roll_up,
            the_last_proof_is_remembered,
            a_fenced_run_proves_and_accepts_nothing,
            a_failed_proof_holds_everything_until_it_is_accepted,
            a_writer_may_ask_for_a_roll_up_and_is_asked_for_it_until_a_snapshot_is_there,
            a_superseded_snapshot_goes_with_the_log_below_the_next_when_its_time_is_over,
            a_snapshot_that_rests_on_the_head_supersedes_nothing_yet,
            records_go_a_few_megabytes_at_a_time,
            a_snapshot_off_the_chain_goes_when_its_time_is_over,
            accounts_are_listed_page_by_page,
            a_chunk_that_no_snapshot_needs_goes_a_day_after_its_pack_arrived,
            a_chunk_that_arrived_again_stays_a_day_longer_in_whichever_pack,
            a_pack_must_be_registered_before_it_is_indexed,
            a_pack_without_chunks_is_removed_a_day_after_it_was_touched,
            a_pack_that_is_being_removed_is_refused_until_it_is_gone,
            moved_chunks_are_located_in_their_new_pack_and_the_old_one_stays_a_day,
            what_is_registered_marked_or_moved_is_an_accounts_own,
            a_scrub_sees_every_record_and_every_pack_that_holds_chunks,
            a_scrub_sees_replaced_records_and_every_version_of_the_files,
            what_lies_in_a_damaged_pack_has_to_come_again_before_a_snapshot_rests_on_it,
            a_damaged_pack_that_comes_again_is_sound,
            a_damaged_pack_is_not_rewritten_and_goes_when_its_chunks_left_it,
            a_mark_is_made_on_packs_that_hold_chunks_alone,
            each_account_is_taken_on_for_a_scrub_once_in_its_time,
            files_come_back_as_they_were_at_any_time,
            the_same_files_again_change_nothing_and_older_ones_are_a_new_version,
            a_fenced_run_stores_no_files,
            files_that_another_version_followed_are_dropped_and_the_newest_stays,
            files_are_their_accounts_own,
            an_overview_counts_all_accounts_and_names_as_many_as_asked_for,
            an_account_is_found_by_its_node_and_network_alone,
            whole_accounts_are_listed_page_by_page,
            the_growth_of_a_short_log_is_exact,
            the_growth_of_a_long_log_is_measured_here_and_there_and_ends_at_the_log,
            an_accounts_grants_are_listed_with_their_floor_the_highest_serial_first,
            a_snapshots_chunks_are_listed_by_id_page_by_page,
            an_alarm_is_kept_until_it_is_ended_and_one_server_has_it_at_a_time,
            so_many_alarms_wait_and_no_more,
            an_account_sees_nothing_of_another,
            a_closed_store_refuses,
        }
    };
}
pub(super) use for_every_rule;

pub(in crate::store) async fn an_account_sees_nothing_of_another(store: Arc<dyn Store>) {
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

pub(in crate::store) async fn a_closed_store_refuses(store: Arc<dyn Store>) {
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
