//! One pass over all that a store holds.

use super::{
    MoveError, Mover,
    form::{Difference, Form, Merge, Side},
    link::{Cell, Kind, Row},
    standing,
    tables::{PACKS, REMOVES_ACCOUNT, SNAPSHOT_CHUNKS, SNAPSHOTS},
};
use crate::store::AccountId;
use backstop_protocol::id::PackId;
use serde::Serialize;
use std::collections::BTreeMap;

/// Rows that are written at once.
const ROWS: usize = 300;
/// Bytes of what is heavy that are in memory at once, unless one row has more.
const BYTES: u64 = 4 << 20;
/// Accounts that are listed at once.
const ACCOUNTS: i64 = 256;

/// How far a copy is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Which pass.
    pub pass: u32,
    /// Accounts looked at in it.
    pub account: u64,
    /// Of so many.
    pub accounts: u64,
    /// Bytes copied, of all passes.
    pub bytes: u64,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Passes.
    pub passes: u32,
    /// Rows entered or changed.
    pub written: u64,
    /// Rows removed, without those that rested on them.
    pub removed: u64,
    /// Packs carried.
    pub packs: u64,
    /// Bytes of records, manifests, files and packs.
    pub bytes: u64,
    /// Records of the source that do not have their hash, as they were copied.
    pub damaged_records: Vec<String>,
    /// Packs that the source does not have any more, or not as their names say.
    pub lost_packs: Vec<String>,
    /// How many rows each table of the target has.
    pub rows: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// How much was not equal.
    pub(super) fn changes(&self) -> u64 {
        self.written + self.removed
    }

    /// With a later one.
    pub(super) fn add(&mut self, later: Self) {
        self.passes += later.passes;
        self.written += later.written;
        self.removed += later.removed;
        self.packs += later.packs;
        self.bytes += later.bytes;
        self.damaged_records.extend(later.damaged_records);
        // A later pass looks for them again.
        self.lost_packs = later.lost_packs;
        if !later.rows.is_empty() {
            self.rows = later.rows;
        }
    }

    /// How much of the source is lost or damaged.
    #[must_use]
    pub fn faults(&self) -> usize {
        self.damaged_records.len() + self.lost_packs.len()
    }
}

/// Rows on their way.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) rows: Vec<Row>,
    pub(super) bytes: u64,
}

impl Mover {
    /// Brings the target to where the source is. `deep`: what is heavy and has no hash is compared too.
    pub(super) async fn pass(&mut self, deep: bool) -> Result<Tally, MoveError> {
        let done = self.try_pass(deep).await;
        if done.is_err() {
            self.source.undo().await;
            self.target.undo().await;
        }
        done
    }

    async fn try_pass(&mut self, deep: bool) -> Result<Tally, MoveError> {
        self.tally = Tally {
            passes: 1,
            ..Tally::default()
        };
        self.progress.pass += 1;
        self.progress.account = 0;
        self.common().await?;
        let count = "SELECT CAST(count(*) AS bigint) FROM accounts";
        self.progress.accounts = u64::try_from(self.target.number(count, &[]).await?).unwrap_or_default();
        let mut after = i64::MIN;
        loop {
            let sql = "SELECT account FROM accounts WHERE account > $1 ORDER BY account LIMIT $2";
            let values = [(Kind::Int, Cell::Int(after)), (Kind::Int, Cell::Int(ACCOUNTS))];
            let page = self.target.rows(sql, &values, &[Kind::Int]).await?;
            let Some(last) = page.last().and_then(|row| row.first()) else {
                break;
            };
            after = last.int();
            for account in page.iter().filter_map(|row| row.first()) {
                self.account(account.int(), deep).await?;
                self.progress.account += 1;
                (self.hear)(&self.progress);
            }
        }
        self.settle().await?;
        Ok(std::mem::take(&mut self.tally))
    }

    /// What belongs to no account, and which accounts there are.
    async fn common(&mut self) -> Result<(), MoveError> {
        self.source.view().await?;
        let mut gone = Merge::new(&self.accounts.table, 0);
        let mut new = Batch::default();
        while let Some(difference) = gone
            .next(&self.accounts, &mut self.source, &mut self.target)
            .await?
        {
            match difference {
                Difference::Extra(row) => self.forget(self.accounts.cell(&row, "account").int()).await?,
                Difference::Missing(mut row) => {
                    // Triggers count what comes.
                    self.accounts.set(&mut row, "kept_bytes", Cell::Int(0));
                    new.rows.push(row);
                }
                // An account's own turn comes.
                Difference::Changed(..) | Difference::Same(_) => {}
            }
            if new.rows.len() >= ROWS {
                self.enter_accounts(&mut new).await?;
            }
        }
        self.enter_accounts(&mut new).await?;
        let common = std::mem::take(&mut self.common);
        let mut done = Ok(());
        for form in &common {
            done = self.clear(form, 0, 0).await;
            if done.is_ok() {
                done = self.fill(form, 0, 0, false).await;
            }
            if done.is_err() {
                break;
            }
        }
        self.common = common;
        done?;
        self.source.end().await
    }

    async fn enter_accounts(&mut self, new: &mut Batch) -> Result<(), MoveError> {
        if new.rows.is_empty() {
            return Ok(());
        }
        standing::write(&mut self.target, self.own).await?;
        self.accounts.put(&mut self.target, &new.rows).await?;
        self.target.end().await?;
        self.tally.written += new.rows.len() as u64;
        new.rows.clear();
        Ok(())
    }

    /// Removes an account that the source has no more.
    async fn forget(&mut self, account: i64) -> Result<(), MoveError> {
        if let Some(packs) = &self.packs {
            let account = AccountId(account);
            for stored in packs.to.list(account).await? {
                packs.to.remove(account, stored.pack).await?;
            }
        }
        standing::write(&mut self.target, self.own).await?;
        for sql in REMOVES_ACCOUNT {
            self.target.run(sql, &[(Kind::Int, Cell::Int(account))]).await?;
        }
        self.target.end().await?;
        self.tally.removed += 1;
        Ok(())
    }

    /// One account, as it stands at this moment.
    async fn account(&mut self, account: i64, deep: bool) -> Result<(), MoveError> {
        let parts = std::mem::take(&mut self.parts);
        self.source.view().await?;
        let done = self.parts_of(&parts, account, deep).await;
        self.parts = parts;
        done?;
        self.source.end().await
    }

    async fn parts_of(&mut self, parts: &[Form], account: i64, deep: bool) -> Result<(), MoveError> {
        let own = [(Kind::Int, Cell::Int(account))];
        let there = "SELECT CAST(count(*) AS bigint) FROM accounts WHERE account = $1";
        if self.source.number(there, &own).await? == 0 {
            // Removed since the pass began; the next one hears of it.
            return Ok(());
        }
        // First what goes, lest a name that came again meets its old row; then what comes.
        for form in parts {
            for scope in self.scopes(form, account).await? {
                self.clear(form, account, scope).await?;
            }
        }
        for form in parts {
            for scope in self.scopes(form, account).await? {
                self.fill(form, account, scope, deep).await?;
            }
        }
        self.close_account(account).await
    }

    /// The account itself, of which the database reads one row: all that is judged by stands in it.
    async fn close_account(&mut self, account: i64) -> Result<(), MoveError> {
        let here = self.accounts.one(&mut self.source, Side::Source, account).await?;
        let there = self.accounts.one(&mut self.target, Side::Target, account).await?;
        let Some(row) = here.filter(|row| Some(row) != there.as_ref()) else {
            return Ok(());
        };
        standing::write(&mut self.target, self.own).await?;
        self.accounts.put(&mut self.target, &[row]).await?;
        self.target.end().await?;
        self.tally.written += 1;
        Ok(())
    }

    /// What the rows of a table are looked at by: the account, or each of its snapshots.
    async fn scopes(&mut self, form: &Form, account: i64) -> Result<Vec<i64>, MoveError> {
        if form.table.name != SNAPSHOT_CHUNKS.name {
            return Ok(vec![account]);
        }
        let sql = format!(
            "SELECT snapshot FROM {} WHERE account = $1 ORDER BY snapshot",
            SNAPSHOTS.name
        );
        let own = [(Kind::Int, Cell::Int(account))];
        let rows = self.source.rows(&sql, &own, &[Kind::Int]).await?;
        Ok(rows.iter().filter_map(|row| row.first()).map(Cell::int).collect())
    }

    /// Removes what the source does not have, or has under another number.
    async fn clear(&mut self, form: &Form, account: i64, scope: i64) -> Result<(), MoveError> {
        let mut merge = Merge::new(&form.table, scope);
        let mut gone = Vec::new();
        loop {
            let difference = merge.next(form, &mut self.source, &mut self.target).await?;
            let ended = difference.is_none();
            match difference {
                Some(Difference::Extra(row)) => gone.push(row),
                Some(Difference::Changed(here, there)) if form.number(&here) != form.number(&there) => {
                    gone.push(there);
                }
                _ => {}
            }
            if gone.len() >= ROWS || (ended && !gone.is_empty()) {
                self.remove(form, account, scope, &gone).await?;
                gone.clear();
            }
            if ended {
                return Ok(());
            }
        }
    }

    async fn remove(&mut self, form: &Form, account: i64, scope: i64, gone: &[Row]) -> Result<(), MoveError> {
        if form.table.name == PACKS.name
            && let Some(packs) = &self.packs
        {
            for row in gone {
                if let Some(pack) = pack_id(form.cell(row, "id")) {
                    packs.to.remove(AccountId(account), pack).await?;
                }
            }
        }
        standing::write(&mut self.target, self.own).await?;
        for row in gone {
            form.remove(&mut self.target, Some(scope), row).await?;
        }
        self.target.end().await?;
        self.tally.removed += gone.len() as u64;
        Ok(())
    }

    /// Enters what the target does not have, and changes what differs.
    async fn fill(&mut self, form: &Form, account: i64, scope: i64, deep: bool) -> Result<(), MoveError> {
        let compared = deep && form.table.heavy.is_some_and(|heavy| !heavy.hashed);
        let mut merge = Merge::new(&form.table, scope);
        let (mut new, mut equal) = (Batch::default(), Batch::default());
        while let Some(difference) = merge.next(form, &mut self.source, &mut self.target).await? {
            let (row, there, same) = match difference {
                Difference::Missing(row) => (Some(row), None, false),
                Difference::Changed(here, there) => (Some(here), Some(there), false),
                Difference::Same(row) if compared => (Some(row), None, true),
                Difference::Same(_) | Difference::Extra(_) => continue,
            };
            let row = match row {
                Some(row) if form.table.name == PACKS.name => self.bring(form, account, row, there).await?,
                row => row,
            };
            let Some(row) = row else { continue };
            let bytes = form.weight(&row);
            let waiting = if same { &mut equal } else { &mut new };
            if waiting.bytes + bytes > BYTES || waiting.rows.len() >= ROWS {
                let full = std::mem::take(waiting);
                if same {
                    self.compare(form, account, scope, full).await?;
                } else {
                    self.enter(form, account, scope, full).await?;
                }
            }
            let waiting = if same { &mut equal } else { &mut new };
            waiting.rows.push(row);
            waiting.bytes += bytes;
        }
        self.enter(form, account, scope, new).await?;
        self.compare(form, account, scope, equal).await
    }
}

pub(super) fn pack_id(cell: &Cell) -> Option<PackId> {
    Some(PackId(cell.bytes().try_into().ok()?))
}
