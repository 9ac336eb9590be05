//! A node's backup, as its owner sees it.

use super::{
    failure::Failure,
    matters::{Grade, Matter},
    page::{Nav, page, table, typed, when},
    plot::{Plot, Shape},
    visit::Visit,
};
use crate::{
    amounts::{distance, size},
    http::App,
    store::{Account, Growth, Refusal, StoreError},
};
use axum::{extract::State, http::StatusCode, response::Response};
use backstop_protocol::{
    api::{AccountGrants, AccountState, RememberedGrant, SnapshotInfo},
    clock::UnixMillis,
    grant::{Grant, Scope},
    quota::QuotaLevel,
};
use maud::{Markup, html};
use std::sync::Arc;

/// Snapshots that are listed at most, the newest first.
const SNAPSHOTS_MAX: usize = 50;

/// What the page is made of.
struct Backup {
    account: Account,
    state: AccountState,
    snapshots: Vec<SnapshotInfo>,
    grants: AccountGrants,
    growth: Growth,
    matters: Vec<Matter>,
    now: UnixMillis,
}

pub(super) async fn show(State(app): State<Arc<App>>, visit: Visit) -> Result<Response, Failure> {
    let id = visit.owner(&app).ok_or(Failure::Over)?;
    let now = app.clock.now();
    let gone = |error| match error {
        // It was removed since, or is going.
        StoreError::Refused(Refusal::NotFound) => Failure::Over,
        other => other.into(),
    };
    let account = app.store.whole_account(id).await.map_err(gone)?;
    let backup = Backup {
        state: app.store.account(id, now).await.map_err(gone)?,
        snapshots: app.store.snapshots(id).await?,
        grants: app.store.account_grants(id).await.map_err(gone)?,
        growth: app.store.growth(id).await.map_err(gone)?,
        matters: Matter::of(&account, &app.terms, now),
        account,
        now,
    };
    Ok(page(StatusCode::OK, "Your backup", Nav::Owner, &backup.show()))
}

fn fact(name: &str, value: &Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

impl Backup {
    fn show(&self) -> Markup {
        html! {
            h1 { "Your backup" }
            p.who { "Node " code.long { (self.account.node.to_string()) } " on " (self.account.network.as_str()) }
            (self.verdict())
            section aria-labelledby="now" {
                h2 #now { "How it stands" }
                dl.facts { (self.facts()) }
                (self.meter())
            }
            section aria-labelledby="growth" {
                h2 #growth { "Size and growth" }
                (self.plots())
            }
            section aria-labelledby="history" {
                h2 #history { "History" }
                (self.history())
            }
            section aria-labelledby="devices" {
                h2 #devices { "Devices with a grant" }
                (self.devices())
            }
        }
    }

    fn command(&self, command: &str) -> Markup {
        typed(&format!("backstop {command} --network {}", self.account.network))
    }

    /// What counts, before anything else.
    fn verdict(&self) -> Markup {
        let banner = |grade: Grade, title: &str, says: &Markup| {
            html! {
                div class={ "verdict " (grade.class()) } {
                    p.title { span.mark aria-hidden="true" { (grade.mark()) } strong { (title) } }
                    (says)
                }
            }
        };
        let Some(last) = self.state.head_received_at.filter(|_| self.matters.is_empty()) else {
            return html! {
                @for matter in &self.matters {
                    (banner(matter.grade(), &matter.title(self.now), &matter.says(&self.account)))
                }
            };
        };
        let says = html! {
            p { "Everything that this server acknowledged is here, up to the change that came " (distance(last, self.now)) " ago. "
                "Whether that is all your node did, the node knows: " (self.command("status")) }
        };
        banner(Grade::Good, "Your node is backed up here", &says)
    }

    fn facts(&self) -> Markup {
        let (state, now) = (&self.state, self.now);
        let never = || html! { "never" };
        let proof = match state.proof {
            Some(proof) if proof.equal => {
                html! { "equal, " (when(proof.at, now)) ", at record " (proof.seq) }
            }
            Some(proof) => {
                html! { strong { "different" } ", " (when(proof.at, now)) ", at record " (proof.seq) }
            }
            None => html! { "none yet; the node compares at a start, once a day at most" },
        };
        let snapshot = state.snapshot.as_ref().map_or_else(
            || html! { "none yet: the log goes back to the beginning" },
            |snapshot| html! { (size(snapshot.bytes)) ", " (when(snapshot.committed_at, now)) },
        );
        let files = state.files.as_ref().map_or_else(
            || html! { "none" },
            |files| html! { (size(files.bytes)) ", " (when(files.received_at, now)) },
        );
        let writer = state.writer_seen_at.map_or_else(never, |at| when(at, now));
        html! {
            (fact("Last change", &state.head_received_at.map_or_else(never, |at| when(at, now))))
            (fact("Record", &html! { (state.head.seq) " of epoch " (state.head.epoch) }))
            (fact("Last proof", &proof))
            (fact("Plugin last seen", &writer))
            (fact("Newest snapshot", &snapshot))
            (fact("Log", &html! { (size(state.log_bytes)) @if state.roll_up { ", a new snapshot is asked for" } }))
            (fact("Files beside it", &files))
            (fact("Here since", &when(self.account.created_at, now)))
        }
    }

    /// The quota, where there is one.
    fn meter(&self) -> Markup {
        let Some(quota) = self.state.quota else {
            return html! { p.room { "Uses " (size(self.account.used())) ", without a quota." } };
        };
        let words = match quota.level {
            QuotaLevel::Within => "there is room",
            QuotaLevel::Near => "room runs out",
            QuotaLevel::Overdraft => "the overdraft is in use",
            _ => "the overdraft is used up",
        };
        let near = quota.bytes / 100 * 80;
        html! {
            p.room {
                label for="room" { "Quota: " (size(quota.used)) " of " (size(quota.bytes)) ", " (words) }
                meter #room min="0" max=(quota.most) high=(near) optimum="0" value=(quota.used.min(quota.most)) {
                    (size(quota.used)) " of " (size(quota.bytes))
                }
            }
        }
    }

    fn plots(&self) -> Markup {
        let mut snapshots: Vec<_> = self
            .snapshots
            .iter()
            .map(|snapshot| (snapshot.committed_at, snapshot.bytes))
            .collect();
        snapshots.sort_unstable();
        let log: Vec<_> = self
            .growth
            .points
            .iter()
            .map(|point| (point.at, point.bytes))
            .collect();
        if snapshots.is_empty() && log.is_empty() {
            return html! { p { "There is nothing to draw yet." } };
        }
        let said = |points: &[(UnixMillis, u64)]| match points {
            [(from, first), .., (_, last)] => {
                format!(
                    "{} {} ago, {} now.",
                    size(*first),
                    distance(*from, self.now),
                    size(*last)
                )
            }
            [(from, only)] => format!("{}, since {}.", size(*only), distance(*from, self.now)),
            [] => String::new(),
        };
        let database = Plot {
            id: "database",
            title: "Snapshots of the database, sealed",
            about: said(&snapshots),
            heads: ["Snapshot of", "Size"],
            points: &snapshots,
            shape: Shape::Steps,
            now: self.now,
        };
        let log = Plot {
            id: "log",
            title: "The log that is kept, sealed",
            about: said(&log),
            heads: ["Up to", "Size"],
            points: &log,
            shape: Shape::Slope,
            now: self.now,
        };
        html! {
            div.plots { (database.draw()) (log.draw()) }
            @if !self.growth.exact {
                p.fine { "Of a long log only some records are measured: how large it was between its beginning and its end is estimated." }
            }
        }
    }

    fn history(&self) -> Markup {
        let (first, last) = (self.state.first_seq, self.state.head.seq);
        let shown = self.snapshots.iter().take(SNAPSHOTS_MAX);
        let rows: Vec<_> = shown
            .map(|snapshot| {
                vec![
                    html! { "Record " (snapshot.base_seq) },
                    html! { (when(snapshot.committed_at, self.now)) },
                    html! { (size(snapshot.bytes)) },
                ]
            })
            .collect();
        html! {
            @if last > 0 {
                p { "Records " (first) " to " (last) " are here"
                    @if let Some(begin) = self.growth.points.first() { ", the first of " (when(begin.at, self.now)) }
                    ". The points in time that restore are listed by " (self.command("history")) "." }
            }
            @if rows.is_empty() {
                p { "No snapshot is complete yet." }
            } @else {
                (table("Complete snapshots, the newest first", &["State after", "Complete since", "Size"], &rows))
            }
            @if self.snapshots.len() > SNAPSHOTS_MAX {
                p.fine { "And " (self.snapshots.len() - SNAPSHOTS_MAX) " older ones." }
            }
        }
    }

    fn devices(&self) -> Markup {
        let rows: Vec<_> = self
            .grants
            .grants
            .iter()
            .map(|grant| self.device(grant))
            .collect();
        html! {
            p { "Whoever holds one of these access keys may open a session here. If you do not know one, end those of all devices with "
                (self.command("revoke")) "." }
            @if rows.is_empty() {
                p { "No grant was shown yet." }
            } @else {
                (table("Grants that were shown, the latest serial first", &["Access key", "May", "Serial", "State", "First shown"], &rows))
            }
        }
    }

    fn device(&self, remembered: &RememberedGrant) -> Vec<Markup> {
        let shown = when(remembered.shown_at, self.now);
        let Ok(grant) = remembered.text.parse::<Grant>() else {
            return vec![
                html! { code.id { (remembered.text) } },
                html! { "?" },
                html! { "?" },
                html! { "?" },
                shown,
            ];
        };
        let may = match grant.scope {
            Scope::Append => "append: the node's plugin",
            Scope::Read => "read: a mirror",
        };
        let state = match grant.expires_at {
            _ if grant.serial < self.grants.floor => html! { "revoked" },
            Some(at) if at < self.now.as_secs() => html! { "expired" },
            Some(at) => html! { "valid until " (when(UnixMillis(at.saturating_mul(1000)), self.now)) },
            None => html! { "valid" },
        };
        let key = grant.access_key.to_string();
        vec![
            html! { code.id title=(key) { (key) } },
            html! { (may) },
            html! { (grant.serial) },
            state,
            shown,
        ]
    }
}
