//! Moving house: a store is copied into an empty one, of either kind, while servers go on using it; then it is handed over.
//!
//! A pass compares both databases table by table in the order of their keys and brings the target to where the source is. So
//! whatever ended an earlier pass, the next one goes on where that stopped, and one that finds nothing to do proves that the
//! two are equal. An account is read in one consistent view. What is heavy is read for the rows that need it, a few megabytes
//! at a time; packs come before their rows, so that a row in the target means that its pack is durable there.
//!
//! Which of the two may be served, the marks in [`standing`] say: at no time both.

mod carry;
mod form;
mod link;
mod pass;
mod standing;
mod tables;
#[cfg(test)]
mod tests;

pub use link::Database;
pub use pass::{Progress, Tally};
pub use standing::{Token, may_serve};

use super::{
    PostgresStore, SqliteStore, StoreError, StoreId, Terms, operator::OperatorError, postgres, sqlite,
};
use crate::packs::{PackError, PackStore};
use backstop_protocol::{clock::Clock, id::ServerKey};
use form::Form;
use link::{Cell, Kind, Link};
use rand_core::CryptoRng;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// A hand-over holds every node for about one pass: shorter ones need not become shorter still.
const SHORT_MS: u64 = 10_000;

/// Why a store was not moved. Nothing is lost by any of them.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// A database could not be opened.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// The SQLite file could not be made.
    #[error("cannot make the new database")]
    Sqlite(#[from] sqlite::OpenError),
    /// The PostgreSQL database could not be used.
    #[error("cannot use the new PostgreSQL database")]
    Postgres(#[from] postgres::OpenError),
    /// A database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A pack store failed.
    #[error("the packs: {0}")]
    Packs(#[from] PackError),
    /// A table is not what it is in the other database.
    #[error("the table {0} is not the same in both databases")]
    Schema(String),
    /// The target holds something.
    #[error("the new place is not empty, and no copy of this store; choose another, or empty it")]
    NotEmpty,
    /// The target is filled from elsewhere.
    #[error("the new place is being filled from another store; choose another")]
    OtherCopy,
    /// Both places are one.
    #[error(
        "the new place is the old one, or was handed over to already; choose another with --to-database or --to-data"
    )]
    SameStore,
    /// Another copy works on the same target.
    #[error("another `backstop-server copy` took over; this one stopped, and nothing is lost")]
    Overtaken,
    /// Served too early.
    #[error(
        "this store is being filled by `backstop-server copy` and not whole yet; the old one goes on serving until `backstop-server copy --finish` has ended"
    )]
    NotWhole,
    /// Served in the middle.
    #[error(
        "this store is being handed over to another: run `backstop-server copy --finish` again, or take it back with `backstop-server copy --abandon`"
    )]
    HandingOver,
    /// Served too late.
    #[error(
        "this store was moved, and another server goes on in its place with the same identity; two of them would tear every node's chain in two. Start the server over the new store"
    )]
    Moved,
    /// There is nothing to take back.
    #[error("this store is not being handed over: there is nothing to take back")]
    NotHandingOver,
    /// Two stores that should be equal are not.
    #[error(
        "after the hand-over {0} rows still differed; the old store takes records again. Copy again, and look at what writes to the new database"
    )]
    Differs(u64),
    /// Something is wrong at the source.
    #[error(
        "{0} things are lost or damaged in the old store; it takes records again. Heal them first, or move in spite of it with --despite-faults"
    )]
    Faults(usize),
}

impl From<sqlx::Error> for MoveError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Where packs come from and go to; where both are one place, they stay there.
pub struct PackMove {
    /// Where they lie.
    pub from: Arc<dyn PackStore>,
    /// Where they shall lie.
    pub to: Arc<dyn PackStore>,
}

/// A move that goes on.
pub struct Mover {
    source: Link,
    target: Link,
    id: StoreId,
    own: Token,
    accounts: Form,
    common: Vec<Form>,
    parts: Vec<Form>,
    packs: Option<PackMove>,
    /// Bytes a second, on average; 0 for as many as there are.
    rate: u64,
    clock: Arc<dyn Clock>,
    /// Nothing comes to the source any more.
    frozen: bool,
    progress: Progress,
    hear: Box<dyn FnMut(&Progress) + Send>,
    tally: Tally,
}

/// Gives a store that is being handed over, and was not moved yet, back to its servers.
pub async fn abandon(source: &Database) -> Result<(), MoveError> {
    let mut source = Link::connect(source).await?;
    standing::thaw(&mut source, None).await?;
    source.close().await
}

/// Which store a database holds.
pub async fn name(database: &Database) -> Result<StoreId, MoveError> {
    let mut link = Link::connect(database).await?;
    let found = standing::of(&mut link).await;
    link.close().await?;
    Ok(found?.id)
}

async fn make(
    target: &Database,
    server: ServerKey,
    rng: &mut (dyn CryptoRng + Send),
) -> Result<(), MoveError> {
    use super::Store as _;
    match target {
        Database::File(file) => {
            let store = SqliteStore::open(file, None, Terms::default(), rng).await?;
            store.close().await;
        }
        Database::Url(url) => {
            let store = PostgresStore::open(url, server, Terms::default(), rng).await?;
            store.close().await;
        }
    }
    Ok(())
}

impl Mover {
    /// Takes the target, which is made where it is missing and must be empty, or be what an earlier copy of this store began. It
    /// will belong to the server with the key `server`, as the source does. `rng` names this copy.
    pub async fn begin(
        (source, target): (&Database, &Database),
        server: ServerKey,
        rate: u64,
        clock: Arc<dyn Clock>,
        rng: &mut (dyn CryptoRng + Send),
    ) -> Result<Self, MoveError> {
        if source == target {
            return Err(MoveError::SameStore);
        }
        let mut source = Link::connect(source).await?;
        let found = standing::of(&mut source).await?;
        if found.filling {
            return Err(MoveError::NotWhole);
        }
        make(target, server, rng).await?;
        let mut target = Link::connect(target).await?;
        let mut own = Token::default();
        rng.fill_bytes(&mut own);
        standing::take(&mut target, found.id, own).await?;
        let accounts = Form::of(tables::ACCOUNTS, &mut source, &mut target).await?;
        let (mut common, mut parts) = (Vec::new(), Vec::new());
        for table in tables::COMMON {
            common.push(Form::of(*table, &mut source, &mut target).await?);
        }
        for table in tables::OF_AN_ACCOUNT {
            parts.push(Form::of(*table, &mut source, &mut target).await?);
        }
        Ok(Self {
            source,
            target,
            id: found.id,
            own,
            accounts,
            common,
            parts,
            packs: None,
            rate,
            clock,
            frozen: found.handing_over || found.moved,
            progress: Progress::default(),
            hear: Box::new(|_| {}),
            tally: Tally::default(),
        })
    }

    /// The store's name, which goes along: sessions that are open go on in the new place.
    #[must_use]
    pub fn id(&self) -> StoreId {
        self.id
    }

    /// Carries packs too.
    pub fn carry(&mut self, packs: Option<PackMove>) {
        self.packs = packs;
    }

    /// Says how far it is.
    pub fn tell(&mut self, hear: Box<dyn FnMut(&Progress) + Send>) {
        self.hear = hear;
    }

    /// Copies while servers use the source, pass by pass, until a pass is short or no shorter than the one before it; then compares what is
    /// heavy too. What all passes did.
    pub async fn follow(&mut self) -> Result<Tally, MoveError> {
        if self.frozen {
            return Err(MoveError::HandingOver);
        }
        let (mut all, mut before) = (Tally::default(), u64::MAX);
        loop {
            let began = self.clock.now();
            let tally = self.pass(false).await?;
            let took = self.clock.now().millis_since(began);
            let over = tally.changes() == 0 || took < SHORT_MS || took >= before;
            before = took;
            all.add(tally);
            if over {
                break;
            }
        }
        all.add(self.pass(true).await?);
        self.count(&mut all).await?;
        Ok(all)
    }

    /// Hands over: lets the source take nothing more, copies the rest, proves that both are equal, gives up the source and
    /// releases the target. Where it fails before that, the source takes records again. `despite`: faults of the source do
    /// not keep it.
    pub async fn finish(&mut self, despite: bool) -> Result<Tally, MoveError> {
        let moved = standing::of(&mut self.source).await?.moved;
        if !moved {
            standing::freeze(&mut self.source, self.own).await?;
        }
        self.frozen = true;
        match self.last_pass(despite || moved).await {
            Ok(tally) => {
                let now = self.clock.now();
                standing::release(&mut self.source, &mut self.target, self.own, now).await?;
                Ok(tally)
            }
            Err(error) => {
                if !moved && let Err(stays) = standing::thaw(&mut self.source, Some(self.own)).await {
                    tracing::error!(error = %stays, "the old store still takes nothing; run: backstop-server copy --abandon");
                }
                Err(error)
            }
        }
    }

    async fn last_pass(&mut self, despite: bool) -> Result<Tally, MoveError> {
        let mut all = self.pass(false).await?;
        let again = self.pass(false).await?;
        if again.changes() > 0 {
            return Err(MoveError::Differs(again.changes()));
        }
        all.add(again);
        if all.faults() > 0 && !despite {
            return Err(MoveError::Faults(all.faults()));
        }
        self.count(&mut all).await?;
        Ok(all)
    }

    /// Counts the rows of the target; in a hand-over, of both.
    async fn count(&mut self, tally: &mut Tally) -> Result<(), MoveError> {
        let mut rows = BTreeMap::new();
        for table in tables::all() {
            let sql = format!("SELECT CAST(count(*) AS bigint) FROM {}", table.name);
            let there = self.target.number(&sql, &[]).await?;
            if self.frozen {
                let here = self.source.number(&sql, &[]).await?;
                if here != there {
                    return Err(MoveError::Differs(here.abs_diff(there)));
                }
            }
            rows.insert(table.name, u64::try_from(there).unwrap_or_default());
        }
        tally.rows = rows;
        Ok(())
    }

    /// Lets the target go on counting where the source does: no number of an account is ever used again for another node.
    async fn settle(&mut self) -> Result<(), MoveError> {
        let sql = if self.source.is_postgres() {
            "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM accounts_account_seq"
        } else {
            "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'accounts'), 0)"
        };
        let counted = self.source.number(sql, &[]).await?;
        standing::write(&mut self.target, self.own).await?;
        let at = [(Kind::Int, Cell::Int(counted))];
        if !self.target.is_postgres() {
            for sql in [
                "INSERT INTO sqlite_sequence (name, seq) SELECT 'accounts', $1
                 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'accounts')",
                "UPDATE sqlite_sequence SET seq = max(seq, $1) WHERE name = 'accounts'",
            ] {
                self.target.run(sql, &at).await?;
            }
            return self.target.end().await;
        }
        for (table, column) in [
            ("accounts", "account"),
            ("replaced_records", "place"),
            ("packs", "pack"),
            ("chunks", "chunk"),
            ("snapshots", "snapshot"),
            ("files", "version"),
            ("alarms", "alarm"),
        ] {
            let least = if table == "accounts" { counted } else { 0 };
            let sql = format!(
                "SELECT setval(pg_get_serial_sequence('{table}', '{column}'), counted)
                 FROM (SELECT greatest(coalesce(max({column}), 0), $1) AS counted FROM {table}) AS numbers WHERE counted > 0"
            );
            self.target.number(&sql, &[(Kind::Int, Cell::Int(least))]).await?;
        }
        self.target.end().await
    }

    /// Rests as long as so many bytes may take.
    async fn pace(&self, bytes: u64) {
        if let Some(millis) = bytes.saturating_mul(1000).checked_div(self.rate) {
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
    }
}
