//! Who may come, how much room each has, who is watched and who is leaving. These rules need the operator's way into the
//! database beside the store: each is given what opens both.

use super::*;

/// A day, milliseconds.
pub(super) const DAY: u64 = 24 * 60 * 60 * 1000;

/// Hands the names of these rules to a macro: `async fn rule(open: impl AsyncFn(Terms) -> (Arc<dyn Store>, Office))`.
macro_rules! for_every_rule_of_tenants {
    ($run:ident) => {
        $run! {
            a_good_invitation_lets_in_as_many_nodes_as_it_says_on_its_terms,
            an_invitation_that_is_not_good_is_refused_alike_and_leaves_no_trace,
            of_many_that_come_at_once_with_one_invitation_as_many_come_as_it_says,
            an_allowlist_lets_in_whom_it_names_and_nobody_else,
            who_has_an_account_needs_no_invitation,
            use_is_what_a_recount_finds_whatever_happens,
            a_pack_is_refused_before_a_record_and_neither_changes_anything,
            a_full_account_takes_again_what_it_has,
            a_node_that_runs_out_of_room_is_asked_for_roll_ups_early,
            a_quota_that_an_operator_raises_counts_at_once,
            what_the_server_gathers_itself_is_never_refused_for_want_of_room,
            history_yields_as_room_runs_out,
            until_a_removal_begins_everything_goes_on_and_it_can_be_taken_back,
            a_removed_account_leaves_nothing_and_its_node_may_come_again,
            an_account_that_is_going_takes_and_gives_nothing,
            what_is_held_goes_with_its_account,
            each_thing_is_told_once,
        }
    };
}
pub(in crate::store) use for_every_rule_of_tenants;

pub(super) async fn used(office: &mut Office, node: u8) -> (u64, u64) {
    let account = office.account(NodeId([node; 33]), None).await.unwrap();
    (account.log_bytes, account.kept_bytes)
}

/// What the account says it uses is what its rows are.
pub(super) async fn recounted(office: &mut Office, session: &Session) -> u64 {
    let node = session.timeline.0[0];
    let said = used(office, node).await;
    assert_eq!(said, office.recount(session.account).await.unwrap());
    said.0 + said.1
}

pub(super) fn files(session: &Session, fill: u8, len: usize) -> PutFiles {
    PutFiles {
        account: session.account,
        writer: session.writer,
        sealed: vec![fill; len].into(),
        now: NOW,
    }
}

/// Room for three of the smallest records, with an overdraft of three more.
pub(super) fn tight() -> Terms {
    let three = 3 * u64::try_from(RECORD_MIN).unwrap();
    Terms {
        quota: QuotaPolicy {
            bytes: Some(three),
            warn_percent: 60,
            overdraft_percent: 100,
        },
        ..Terms::default()
    }
}
