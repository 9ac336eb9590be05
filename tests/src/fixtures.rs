//! What a real lightningd did, if it is on this machine: a trace of every `db_write` and two databases.
//!
//! The recorded node's secret is not among it, and a restore checks that a database belongs to the secret. So the
//! recorded node id, which stands in one statement and in one row, is replaced by the test node's of the same length.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

const TRACE: &str = "cln-v26.06-trace.jsonl.zst";
const FINAL: &str = "cln-v26.06-final.sqlite3.zst";
const MID: &str = "cln-v26.06-mid";
/// The version of the batch inside whose hook the middle database was copied: it holds the state before.
pub const MID_IN_FLIGHT: u64 = 3570;

/// One recorded call of the hook.
#[derive(Clone, Debug, Deserialize)]
pub struct RecordedBatch {
    /// Which start of lightningd it belongs to, from 1.
    pub run: u64,
    /// Whether `init` was still to come.
    pub pre_init: bool,
    /// As lightningd sent it.
    pub data_version: u64,
    /// The statements.
    pub writes: Vec<String>,
}

impl RecordedBatch {
    /// Whether it ran outside any transaction.
    pub fn is_pragma(&self) -> bool {
        self.writes.iter().all(|write| write.starts_with("PRAGMA "))
    }

    /// Whether it is part of a migration, after which lightningd rewrites the file.
    pub fn is_upgrade(&self) -> bool {
        self.writes
            .iter()
            .any(|write| write.starts_with("INSERT INTO db_upgrades"))
    }

    /// Bytes of its statements.
    pub fn sql_bytes(&self) -> u64 {
        self.writes.iter().map(|write| write.len() as u64).sum()
    }
}

/// The folder with the fixtures.
#[derive(Clone, Debug)]
pub struct Fixtures {
    folder: PathBuf,
    node_id: Vec<u8>,
}

impl Fixtures {
    /// Finds them in `BACKSTOP_FIXTURES`, or beside the project in `../shared/fixtures`. Where they are not, says so
    /// on stderr and gives nothing: the simulated node serves then.
    pub fn find() -> Result<Option<Self>> {
        let folder = std::env::var_os("BACKSTOP_FIXTURES").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures"),
            PathBuf::from,
        );
        if !folder.join(TRACE).is_file() {
            say(&format!(
                "no recorded trace in {}: this test did not run on real input",
                folder.display()
            ));
            return Ok(None);
        }
        let mut fixtures = Self {
            folder,
            node_id: Vec::new(),
        };
        fixtures.node_id = fixtures.recorded_node_id()?;
        Ok(Some(fixtures))
    }

    /// Every batch in order, as that of the node `node_id`.
    pub fn batches(&self, node_id: &[u8; 33]) -> Result<impl Iterator<Item = Result<RecordedBatch>> + use<>> {
        let (old, new) = (hex::encode(&self.node_id), hex::encode(node_id));
        Ok(self.recorded()?.map(move |batch| {
            let mut batch = batch?;
            for write in &mut batch.writes {
                if write.contains(&old) {
                    *write = write.replace(&old, &new);
                }
            }
            Ok(batch)
        }))
    }

    /// Writes the database as it was in the end to `path`.
    pub fn write_final(&self, path: &Path, node_id: &[u8; 33]) -> Result<()> {
        self.write_database(FINAL, path, node_id)
    }

    /// Writes the database in the middle, main file and journal, to `path`: the state before [`MID_IN_FLIGHT`].
    pub fn write_mid(&self, path: &Path, node_id: &[u8; 33]) -> Result<()> {
        self.write_database(&format!("{MID}/lightningd.sqlite3.zst"), path, node_id)?;
        let journal = crate::disk::beside(path, "-journal");
        // Its header is zeros, so that its checksums are of no account.
        self.write_database(
            &format!("{MID}/lightningd.sqlite3-journal.zst"),
            &journal,
            node_id,
        )
    }

    fn recorded(&self) -> Result<impl Iterator<Item = Result<RecordedBatch>> + use<>> {
        let lines = BufReader::new(zstd::Decoder::new(File::open(self.folder.join(TRACE))?)?).lines();
        Ok(lines.map(|line| serde_json::from_str(&line?).context("a line of the trace")))
    }

    fn recorded_node_id(&self) -> Result<Vec<u8>> {
        for batch in self.recorded()? {
            for write in batch?.writes {
                if let Some((_, rest)) = write.split_once("VALUES ('node_id', x'") {
                    return Ok(hex::decode(rest.get(..66).context("a short node id")?)?);
                }
            }
        }
        anyhow::bail!("the trace does not say whose it is")
    }

    fn write_database(&self, name: &str, path: &Path, node_id: &[u8; 33]) -> Result<()> {
        let mut bytes = Vec::new();
        zstd::Decoder::new(File::open(self.folder.join(name))?)?.read_to_end(&mut bytes)?;
        let places: Vec<usize> = bytes
            .windows(33)
            .enumerate()
            .filter(|(_, w)| *w == self.node_id)
            .map(|(at, _)| at)
            .collect();
        ensure!(
            places.len() == 1,
            "the node id stands {} times in {name}",
            places.len()
        );
        for at in places {
            bytes
                .get_mut(at..at + 33)
                .context("just found")?
                .copy_from_slice(node_id);
        }
        Ok(std::fs::write(path, bytes)?)
    }
}

#[expect(
    clippy::print_stderr,
    reason = "a test that did not run on real input must say so"
)]
fn say(line: &str) {
    eprintln!("{line}");
}
