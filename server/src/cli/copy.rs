//! `backstop-server copy`: an operator moves everything to another database and other packs, while the server serves.

use super::{
    place::{Place, open_packs},
    print, units,
};
use crate::{
    DatabaseUrl,
    amounts::size,
    data_dir::{database_in, packs_in},
    durable, identity,
    packs::{Bucket, BucketUrl, DirectoryPacks, PackStore},
    scrub::{Report, Scrubber},
    store::{
        PostgresStore, SqliteStore, Store, StoreId, Terms,
        moving::{self, Database, Mover, PackMove, Progress, Tally},
    },
};
use anyhow::Context as _;
use backstop_protocol::{
    clock::{Clock as _, SystemClock, UnixMillis},
    id::ServerKey,
};
use clap::Args;
use getrandom::{SysRng, rand_core::UnwrapErr};
use rand_core::CryptoRng;
use serde::Serialize;
use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::PathBuf,
    sync::Arc,
};

/// How often it is said how far it is, milliseconds.
const SAY_MS: u64 = 5_000;

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(super) struct Copy {
    #[command(flatten)]
    place: Place,
    /// The new data directory, which will hold the server's identity, and the database and packs that are said to be nowhere
    /// else [default: the old one].
    #[arg(long, value_name = "DIR")]
    to_data: Option<PathBuf>,
    /// The new PostgreSQL database, empty. Without it: a SQLite file in the new data directory.
    #[arg(
        long,
        value_name = "postgres://...",
        env = "BACKSTOP_SERVER_TO_DATABASE",
        hide_env_values = true
    )]
    to_database: Option<DatabaseUrl>,
    /// The bucket for packs. Without it they stay where they are, or go to the new data directory if one is named.
    #[arg(long, value_name = "s3://BUCKET/PREFIX")]
    to_packs: Option<BucketUrl>,
    /// The service that has that bucket, where it is not AWS.
    #[arg(long, value_name = "URL", requires = "to_packs")]
    to_packs_endpoint: Option<String>,
    /// That bucket's region.
    #[arg(long, value_name = "REGION", requires = "to_packs")]
    to_packs_region: Option<String>,
    /// Copy at most so many bytes in a second, on average; 0 for as many as there are.
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = units::bytes)]
    rate: u64,
    /// Hand over: from now on the old server takes nothing, the rest is copied, and the new store may be served. Nodes wait meanwhile.
    #[arg(long)]
    finish: bool,
    /// Hand over although records or packs of the old store are lost or damaged.
    #[arg(long, requires = "finish")]
    despite_faults: bool,
    /// Give a store whose hand-over broke off back to its server.
    #[arg(long, conflicts_with = "finish")]
    abandon: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Something of the old store is lost or damaged; the report says what.
#[derive(Debug, thiserror::Error)]
#[error("{0} things are lost or damaged; the report above names them")]
pub(super) struct Found(usize);

/// What a copy did, and what it found.
#[derive(Serialize)]
struct Copied {
    finished: bool,
    #[serde(flatten)]
    tally: Tally,
    scrub: Option<Report>,
}

/// Where everything shall be.
struct Destination {
    data: PathBuf,
    database: Database,
    bucket: Option<Bucket>,
    /// The packs are there already.
    packs_stay: bool,
}

impl Copy {
    fn destination(&self) -> anyhow::Result<Destination> {
        let old = std::path::absolute(self.place.data()?)?;
        let data = match &self.to_data {
            Some(data) => std::path::absolute(data)?,
            None => old.clone(),
        };
        let (from, to) = (self.place.bucket()?, self.to_packs.as_ref());
        let bucket = match (to, &from) {
            (Some(url), _) => Some(Bucket {
                endpoint: self.to_packs_endpoint.clone(),
                region: self.to_packs_region.clone(),
                ..Bucket::new(url.clone())
            }),
            (None, Some(from)) if self.to_data.is_none() => Some(from.clone()),
            (None, _) => None,
        };
        let packs_stay = match (&from, &bucket) {
            (Some(from), Some(to)) => (&from.url, &from.endpoint) == (&to.url, &to.endpoint),
            (None, None) => data == old,
            _ => false,
        };
        Ok(Destination {
            database: match &self.to_database {
                Some(url) => Database::Url(url.expose().to_owned()),
                None => Database::File(database_in(&data)),
            },
            data,
            bucket,
            packs_stay,
        })
    }
}

impl Destination {
    async fn packs(
        &self,
        store: StoreId,
        rng: &mut (dyn CryptoRng + Send),
    ) -> anyhow::Result<Arc<dyn PackStore>> {
        if self.bucket.is_none() {
            let dir = packs_in(&self.data);
            let made = DirectoryPacks::open_shared(&dir, rng.next_u64(), SystemClock.now());
            made.with_context(|| format!("cannot make the pack directory {}", dir.display()))?;
        }
        open_packs(self.bucket.as_ref(), &self.data, store, rng).await
    }

    async fn store(
        &self,
        server: ServerKey,
        rng: &mut (dyn CryptoRng + Send),
    ) -> anyhow::Result<Arc<dyn Store>> {
        Ok(match &self.database {
            Database::File(file) => Arc::new(SqliteStore::open(file, None, Terms::default(), rng).await?),
            Database::Url(url) => Arc::new(PostgresStore::open(url, server, Terms::default(), rng).await?),
        })
    }
}

pub(super) async fn run(copy: Copy) -> anyhow::Result<()> {
    let source = copy.place.database()?;
    if copy.abandon {
        moving::abandon(&source).await?;
        print(
            "The old store takes records again. What was copied stays, and a later copy goes on from there.\n",
        );
        return Ok(());
    }
    let mut rng = UnwrapErr(SysRng);
    let to = copy.destination()?;
    let identity = identity::load(&copy.place.data()?)?;
    let key = identity.server_key();
    durable::create_dir(&to.data).with_context(|| format!("cannot make {}", to.data.display()))?;
    let clock = Arc::new(SystemClock);
    let mut mover = Mover::begin((&source, &to.database), key, copy.rate, clock.clone(), &mut rng).await?;
    // Only now: where the key is, a server may start, and this one is refused until all is there.
    identity::give(&to.data, &identity)?;
    let from = open_packs(
        copy.place.bucket()?.as_ref(),
        &copy.place.data()?,
        mover.id(),
        &mut rng,
    )
    .await?;
    let packs = if to.packs_stay {
        from
    } else {
        let to = to.packs(mover.id(), &mut rng).await?;
        mover.carry(Some(PackMove { from, to: to.clone() }));
        to
    };
    mover.tell(Box::new(sayer()));
    let copied = if copy.finish {
        let tally = mover.finish(copy.despite_faults).await?;
        let (finished, scrub) = (true, None);
        Copied {
            finished,
            tally,
            scrub,
        }
    } else {
        let tally = mover.follow().await?;
        say("reading what was copied");
        let store = to.store(key, &mut rng).await?;
        let report = Scrubber::new(store.clone(), packs, clock, copy.rate)
            .everything()
            .await;
        store.close().await;
        let (finished, scrub) = (false, Some(report?));
        Copied {
            finished,
            tally,
            scrub,
        }
    };
    print(&if copy.json {
        format!("{}\n", serde_json::to_string(&copied)?)
    } else {
        told(&copied)
    });
    let wrong = copied.scrub.as_ref().map_or(0, |report| report.faults.len());
    match copied.tally.faults().max(wrong) {
        0 => Ok(()),
        faults => Err(Found(faults).into()),
    }
}

fn say(what: &str) {
    // Nobody has to read it.
    let _ = writeln!(io::stderr(), "backstop-server: {what}");
}

/// Says how far it is, every few seconds.
fn sayer() -> impl FnMut(&Progress) + Send {
    let mut said = UnixMillis(0);
    move |progress| {
        let now = SystemClock.now();
        if now.millis_since(said) >= SAY_MS {
            said = now;
            let Progress {
                pass,
                account,
                accounts,
                bytes,
            } = progress;
            say(&format!(
                "pass {pass}: {account} of {accounts} nodes, {} copied so far",
                size(*bytes)
            ));
        }
    }
}

/// For a person.
fn told(copied: &Copied) -> String {
    let Tally {
        passes,
        written,
        removed,
        packs,
        bytes,
        rows,
        ..
    } = &copied.tally;
    let mut text = format!(
        "{} nodes with {} records and {} snapshots; in {passes} passes {written} rows were written and {removed} removed, {packs} packs carried, {} in all\n",
        rows.get("accounts").unwrap_or(&0),
        rows.get("records").unwrap_or(&0),
        rows.get("snapshots").unwrap_or(&0),
        size(*bytes),
    );
    // Writing to a string does not fail.
    for record in &copied.tally.damaged_records {
        let _ = writeln!(text, "damaged: {record}");
    }
    for pack in &copied.tally.lost_packs {
        let _ = writeln!(text, "lost or damaged: {pack}");
    }
    if let Some(report) = &copied.scrub {
        let _ = write!(text, "the new store: {report}");
    }
    text.push_str(if copied.finished {
        "
Both stores were equal, and the old one takes nothing any more. Start the server over the new one, with the same identity,
where the nodes look for it. The old store may go when that server works; nothing can be taken back to it.
"
    } else {
        "
The old server goes on serving, and what comes to it meanwhile is copied by the same command again, soon done. To move, run
it with --finish: the nodes wait from then until the server over the new store runs.
"
    });
    text
}
