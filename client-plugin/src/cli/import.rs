//! `backstop import`: what a file of `backup.py` is worth, before its plugin goes.

use super::{Here, NodeArgs, scratch::Scratch};
use crate::{
    backup_py::BackupPy,
    cln::{
        NodeDir, database,
        locate::Wallet,
        pidfile::{self, Holder},
    },
    replay::{Durability, Replay, compare},
};
use anyhow::{Context as _, bail, ensure};
use rusqlite::{Connection, OpenFlags};
use serde::Serialize;
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// The file does not lead to the database.
const DIFFERENT: u8 = 1;

/// Check a file of backup.py's against this node's database.
///
/// Everything in it is rebuilt, without the batches that were never committed and that backup.py leaves in it, and compared with the
/// database, table by table. lightningd must be stopped.
///
/// Its records are not sent anywhere: Backstop's own history begins with a snapshot of the database (backstop setup). Keep the
/// file until backstop status says PROTECTED.
///
/// Exit code: 0 the file leads to this very database, 1 it does not, or that could not be found out.
#[derive(clap::Args)]
#[command(after_help = "Example:

  backstop import --network bitcoin --backup-py /mnt/backup/lightningd.bkp")]
pub(super) struct Args {
    #[command(flatten)]
    node: NodeArgs,
    /// The file, which backup.lock names behind `file://`.
    #[arg(long, value_name = "FILE")]
    backup_py: PathBuf,
    /// Keep the rebuilt database in this file, which must not exist, to look at it. Never start a node on it.
    #[arg(long, value_name = "FILE")]
    keep: Option<PathBuf>,
    /// Print JSON for programs.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints; members are added, never changed.
#[derive(Debug, Serialize)]
struct Checked {
    /// Whether the file leads to the database as it stands.
    equal: bool,
    /// Where they differ.
    difference: Option<String>,
    /// The database's version.
    database_version: u64,
    /// The version to which the file leads.
    file_version: u64,
    /// Batches that were applied.
    batches: u64,
    /// Batches in the file that were never committed.
    superseded: u64,
    /// Whether the file's last record was cut off.
    cut: bool,
}

/// Runs the command.
pub(super) fn command(args: &Args, here: &Here) -> anyhow::Result<ExitCode> {
    let files = args.node.find(here)?;
    let keep = args.keep.as_ref().map(|keep| here.cwd.join(keep));
    let checked = check(&files, &here.cwd.join(&args.backup_py), keep.as_deref())?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&checked)?)?;
    } else {
        checked.report(&mut out)?;
    }
    Ok(if checked.equal {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(DIFFERENT)
    })
}

fn check(files: &NodeDir, file: &Path, keep: Option<&Path>) -> anyhow::Result<Checked> {
    let Wallet::Sqlite(live) = files.wallet() else {
        bail!("this node keeps its database in PostgreSQL, which backup.py does not back up");
    };
    ensure!(
        pidfile::holder(files.pidfile())? == Holder::Nobody,
        "lightningd runs, and its database moves on: stop it first with lightning-cli stop"
    );
    let facts = database::facts(live)?;
    let database_version = facts
        .and_then(|facts| facts.data_version)
        .with_context(|| format!("{} is no database of lightningd's", live.display()))?;
    let mut backup = BackupPy::open(file).with_context(|| file.display().to_string())?;
    let index = backup.index().with_context(|| file.display().to_string())?;
    let file_version = index.version().map(u64::from).context("the file holds nothing")?;
    let scratch = Scratch::make(&files.net())?;
    let rebuilt = scratch.path().join("rebuilt.sqlite3");
    if let Some(base) = &index.base {
        backup.copy(base, &mut File::create_new(&rebuilt)?)?;
    }
    let mut replay = Replay::open(&rebuilt, Durability::Off)?;
    let mut batches = 0;
    // A batch above the database's version was never committed either: lightningd ended before.
    for entry in index
        .batches
        .iter()
        .filter(|entry| u64::from(entry.version) <= database_version)
    {
        replay
            .apply(&backup.batch(entry)?)
            .with_context(|| format!("the batch of version {} does not apply", entry.version))?;
        batches += 1;
    }
    let difference = if replay.data_version() == Some(database_version) {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let live = Connection::open_with_flags(live, flags)?;
        compare::difference(replay.database(), &live)?.map(|difference| difference.to_string())
    } else {
        Some(format!(
            "the file ends at version {} and the database is at {database_version}: lightningd wrote without backup.py",
            replay.data_version().unwrap_or_default()
        ))
    };
    replay.finish()?;
    if let Some(keep) = keep {
        ensure!(
            !keep.exists(),
            "{} exists, and nothing is written over",
            keep.display()
        );
        fs::copy(&rebuilt, keep).with_context(|| format!("{} cannot be written", keep.display()))?;
    }
    Ok(Checked {
        equal: difference.is_none(),
        difference,
        database_version,
        file_version,
        batches,
        superseded: index.superseded,
        cut: index.cut,
    })
}

impl Checked {
    fn report(&self, out: &mut dyn Write) -> io::Result<()> {
        match &self.difference {
            None => writeln!(
                out,
                "EQUAL: the file leads to this very database, version {}.",
                self.database_version
            )?,
            Some(difference) => writeln!(out, "DIFFERENT: {difference}.")?,
        }
        writeln!(
            out,
            "applied   {} batches; {} in the file were never committed",
            self.batches, self.superseded
        )?;
        if self.file_version > self.database_version {
            writeln!(
                out,
                "NOTE      the file goes on to version {}. One batch more is one that lightningd did not commit. More than one means \
                 that this database is older than the backup: do not start lightningd on it, restore with backup-cli first.",
                self.file_version
            )?;
        }
        if self.cut {
            writeln!(out, "NOTE      the file's last record was cut off")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backup_py::testing, cln::locate::Asked};
    use backstop_protocol::id::Network;

    const FIRST: &[&str] = &[
        "CREATE TABLE vars (name TEXT PRIMARY KEY, val TEXT, intval INTEGER, blobval BLOB)",
        "INSERT INTO vars (name, intval) VALUES ('data_version', 0)",
        "CREATE TABLE invoices (id INTEGER PRIMARY KEY, label TEXT)",
    ];

    struct Home {
        dir: tempfile::TempDir,
        node: NodeDir,
    }

    /// A node whose database two batches made.
    fn home() -> Home {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("regtest")).unwrap();
        let asked = Asked {
            lightning_dir: Some(dir.path().to_owned()),
            network: Some(Network::Regtest),
            ..Asked::default()
        };
        let node = NodeDir::find(&asked, None, dir.path()).unwrap();
        let live = Connection::open(node.net().join("lightningd.sqlite3")).unwrap();
        for statement in FIRST {
            live.execute_batch(statement).unwrap();
        }
        live.execute_batch("INSERT INTO invoices (label) VALUES ('paid'); UPDATE vars SET intval = 2")
            .unwrap();
        Home { dir, node }
    }

    fn said(home: &Home, records: &[Vec<u8>], newest: u32) -> anyhow::Result<Checked> {
        let file = home.dir.path().join("backup");
        fs::write(&file, [testing::header(newest), records.concat()].concat()).unwrap();
        check(&home.node, &file, None)
    }

    fn invoice(label: &str) -> String {
        format!("INSERT INTO invoices (label) VALUES ('{label}')")
    }

    #[test]
    fn a_file_that_leads_to_the_database_is_equal_with_and_without_what_was_never_committed() {
        let home = home();
        let (lost, paid) = (invoice("lost"), invoice("paid"));
        let first = testing::batch(1, FIRST);
        let second = testing::batch(2, &[&paid]);
        let found = said(&home, &[first.clone(), second.clone()], 2).unwrap();
        assert!(found.equal, "{found:?}");
        let rewound = testing::batch(2, &[&lost]);
        let found = said(&home, &[first.clone(), rewound, second.clone()], 2).unwrap();
        assert!(found.equal && found.superseded == 1, "{found:?}");
        // lightningd ended between the plugin's word and its own commit.
        let found = said(&home, &[first, second, testing::batch(3, &[&lost])], 3).unwrap();
        assert!(found.equal && found.file_version == 3, "{found:?}");
        assert!(!home.node.net().join("backstop-drill").exists());
    }

    #[test]
    fn a_file_that_leads_elsewhere_or_ends_before_is_different_in_words() {
        let home = home();
        let first = testing::batch(1, FIRST);
        let other = testing::batch(2, &[&invoice("other")]);
        let found = said(&home, &[first.clone(), other], 2).unwrap();
        assert!(found.difference.unwrap().contains("invoices"));
        let found = said(&home, &[first], 1).unwrap();
        assert!(found.difference.unwrap().contains("wrote without backup.py"));
        let gap = said(&home, &[testing::batch(2, &[])], 2).unwrap_err();
        assert!(format!("{gap:#}").contains("version 2 does not apply"), "{gap:#}");
    }

    #[test]
    fn a_snapshot_in_the_file_is_where_it_begins() {
        let home = home();
        let live = fs::read(home.node.net().join("lightningd.sqlite3")).unwrap();
        let found = said(&home, &[testing::record(2, 2, &live)], 2).unwrap();
        assert!(found.equal && found.batches == 0, "{found:?}");
    }
}
