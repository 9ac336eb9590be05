//! All nodes of the server, as its operator sees them: those in trouble first.

use super::{
    cookies::Cookie,
    failure::Failure,
    forms::{self, Token},
    matters::{Grade, Matter, room},
    owner::keep,
    page::{Nav, page, table, typed},
    passes::{Holder, PASS_LIFE_MS},
    visit::{Visit, see},
};
use crate::{
    amounts::{Date, distance, size},
    http::App,
    store::{Account, AccountId, Store, StoreError, Tail, Terms},
};
use axum::{
    extract::{Query, Request, State},
    http::StatusCode,
    response::Response,
};
use backstop_protocol::clock::UnixMillis;
use maud::{Markup, html};
use serde::Deserialize;
use std::sync::Arc;

/// Nodes on one page.
const ROWS: usize = 100;
/// Pages at most: what is kept while all accounts are gone through is bounded, whoever asks for which.
const PAGES: usize = 1000;
/// Accounts that are read at once.
const READ: usize = 500;
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// Which part of the fleet.
#[derive(Deserialize)]
pub(super) struct Part {
    page: Option<usize>,
}

pub(super) async fn to_login() -> Response {
    see("fleet")
}

/// The fleet, or the way in.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    visit: Visit,
    part: Result<Query<Part>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Failure> {
    if !visit.is_operator(&app) {
        return Ok(ask_token(StatusCode::OK, None));
    }
    let Query(part) = part.map_err(|_| Failure::Form)?;
    let number = part.page.unwrap_or(1).clamp(1, PAGES);
    let now = app.clock.now();
    let fleet = Fleet::read(&*app.store, &app.terms, number, now).await?;
    Ok(page(StatusCode::OK, "The fleet", Nav::Operator, &fleet.show()))
}

fn ask_token(status: StatusCode, wrong: Option<&str>) -> Response {
    let main = html! {
        h1 { "The fleet" }
        form.panel method="post" action="fleet-login" {
            @if let Some(wrong) = wrong { p.wrong #wrong role="alert" { (wrong) } }
            label for="token" { "Admin token" }
            p.hint #token-hint { "What stands in the file that " code { "web-admin-token" } " names." }
            input #token name="token" type="password" required maxlength="300" autocomplete="current-password"
                aria-describedby=(if wrong.is_some() { "token-hint wrong" } else { "token-hint" }) aria-invalid=[wrong.map(|_| "true")];
            button type="submit" { "Show the fleet" }
        }
    };
    page(status, "The fleet", Nav::Door, &main)
}

/// Lets the operator in.
pub(super) async fn prove(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let now = app.clock.now();
    app.limiter.operator(now).map_err(Failure::Crowded)?;
    let (visit, form): (Visit, Token) = forms::read(&app, request).await?;
    if !app.passes.admin().is_some_and(|admin| admin.is(&form.token)) {
        tracing::warn!("somebody gave a wrong admin token for the fleet's page");
        let wrong = "That is not the admin token. Look into the file, and mind that a change of it counts from the server's next start on.";
        return Ok(ask_token(StatusCode::FORBIDDEN, Some(wrong)));
    }
    tracing::info!("the operator logged in to the fleet's page");
    let pass = app.passes.issue(Holder::Operator, now);
    let mut response = see("fleet");
    keep(
        &mut response,
        Cookie::Operator.set(visit.secure, &pass, PASS_LIFE_MS / 1000),
    );
    Ok(response)
}

/// Ends the visit.
pub(super) async fn leave(State(app): State<Arc<App>>, visit: Visit) -> Response {
    visit.give_back(&app, Cookie::Operator);
    let mut response = see("fleet");
    keep(&mut response, Cookie::Operator.end(visit.secure));
    response
}

/// One node.
struct Row {
    account: Account,
    matters: Vec<Matter>,
}

/// All of them together.
#[derive(Default)]
struct Sums {
    nodes: u64,
    bad: u64,
    warned: u64,
    used: u64,
    log: u64,
    /// Of those of which it is known.
    per_day: Option<u64>,
}

/// One page of all nodes.
struct Fleet {
    sums: Sums,
    rows: Vec<Row>,
    page: usize,
    pages: usize,
    now: UnixMillis,
    terms: Terms,
}

/// What a log grows by in a day, since its newest snapshot; `None` where that is too short ago to say.
fn per_day(tail: &Tail, now: UnixMillis) -> Option<u64> {
    let time = now.millis_since(tail.since?);
    let bytes = u128::from(tail.bytes) * u128::from(DAY_MS) / u128::from(time.max(1));
    (time >= HOUR_MS).then(|| u64::try_from(bytes).unwrap_or(u64::MAX))
}

fn or_dash(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "–".to_owned(), size)
}

impl Row {
    /// The worst first; of equal ones, who has been silent for longest.
    fn rank(&self) -> (bool, Option<Matter>, Option<UnixMillis>, i64) {
        let first = self.matters.first().copied();
        (
            first.is_none(),
            first,
            self.account.head_received_at,
            self.account.id.0,
        )
    }

    fn grade(&self) -> Grade {
        self.matters.first().map_or(Grade::Good, |matter| matter.grade())
    }

    fn show(&self, terms: &Terms, now: UnixMillis) -> Vec<Markup> {
        let account = &self.account;
        let node = account.node.to_string();
        let state = if self.matters.is_empty() {
            "backed up".to_owned()
        } else {
            let shorts: Vec<_> = self.matters.iter().map(|matter| matter.short(now)).collect();
            shorts.join(", ")
        };
        let grade = self.grade();
        let last = account.head_received_at.map_or_else(
            || html! { "never" },
            |at| html! { time datetime=(Date::of(at).iso()) title=(Date::of(at).minute()) { (distance(at, now)) " ago" } },
        );
        vec![
            html! { code.id title=(node) { (node) } },
            html! { (account.network.as_str()) },
            html! { span class={ "grade " (grade.class()) } { span.mark aria-hidden="true" { (grade.mark()) } (state) } },
            last,
            html! { (account.head.seq) },
            html! { (room(account, terms)) },
            html! { (or_dash(per_day(&account.tail, now))) },
            html! { (size(account.tail.snapshot_bytes)) },
        ]
    }
}

impl Fleet {
    /// Goes through all accounts, and keeps no more of them than the pages up to this one have.
    async fn read(
        store: &dyn Store,
        terms: &Terms,
        page: usize,
        now: UnixMillis,
    ) -> Result<Self, StoreError> {
        let kept = page.saturating_mul(ROWS);
        let (mut sums, mut rows) = (Sums::default(), Vec::new());
        let mut after = AccountId(0);
        loop {
            let accounts = store.whole_accounts(after, READ).await?;
            let Some(last) = accounts.last() else { break };
            after = last.id;
            for account in accounts {
                let row = Row {
                    matters: Matter::of(&account, terms, now),
                    account,
                };
                sums.add(&row, now);
                rows.push(row);
            }
            if rows.len() >= kept.saturating_add(READ) {
                rows.sort_by_key(Row::rank);
                rows.truncate(kept);
            }
        }
        rows.sort_by_key(Row::rank);
        let nodes = usize::try_from(sums.nodes).unwrap_or(usize::MAX);
        let rows = rows
            .into_iter()
            .skip(kept.saturating_sub(ROWS))
            .take(ROWS)
            .collect();
        Ok(Self {
            sums,
            rows,
            page,
            pages: nodes.div_ceil(ROWS).clamp(1, PAGES),
            now,
            terms: terms.clone(),
        })
    }

    fn show(&self) -> Markup {
        let sums = &self.sums;
        let heads = [
            "Node",
            "Network",
            "State",
            "Last record",
            "Records",
            "Uses",
            "Log grows by a day",
            "Snapshot",
        ];
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| row.show(&self.terms, self.now))
            .collect();
        let caption = format!(
            "Nodes, those in trouble first, page {} of {}",
            self.page, self.pages
        );
        html! {
            h1 { "The fleet" }
            dl.sums {
                (sum("Nodes", &sums.nodes.to_string(), Grade::Good))
                (sum("In trouble", &sums.bad.to_string(), if sums.bad > 0 { Grade::Bad } else { Grade::Good }))
                (sum("To look at", &sums.warned.to_string(), if sums.warned > 0 { Grade::Warning } else { Grade::Good }))
                (sum("Stored", &size(sums.used), Grade::Good))
                (sum("Of it logs", &size(sums.log), Grade::Good))
                (sum("Logs grow by a day", &or_dash(sums.per_day), Grade::Good))
            }
            @if rows.is_empty() {
                p { "No node is on this page." }
            } @else {
                div.wide { (table(&caption, &heads, &rows)) }
            }
            nav aria-label="Pages" {
                @if self.page > 1 { a rel="prev" href=(format!("fleet?page={}", self.page - 1)) { "← Before" } }
                @if self.page < self.pages { a rel="next" href=(format!("fleet?page={}", self.page + 1)) { "After →" } }
            }
            p.fine { "As of " (Date::of(self.now).minute()) ". What a node's log grows by is measured since its newest snapshot. "
                (typed("backstop-server node show NODE")) " says more of one." }
        }
    }
}

fn sum(name: &str, value: &str, grade: Grade) -> Markup {
    html! { div class=(grade.class()) { dt { (name) } dd { (value) } } }
}

impl Sums {
    fn add(&mut self, row: &Row, now: UnixMillis) {
        self.nodes = self.nodes.saturating_add(1);
        self.bad = self.bad.saturating_add(u64::from(row.grade() == Grade::Bad));
        self.warned = self
            .warned
            .saturating_add(u64::from(row.grade() == Grade::Warning));
        self.used = self.used.saturating_add(row.account.used());
        self.log = self.log.saturating_add(row.account.log_bytes);
        if let Some(bytes) = per_day(&row.account.tail, now) {
            self.per_day = Some(self.per_day.unwrap_or(0).saturating_add(bytes));
        }
    }
}
