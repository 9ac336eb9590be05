//! Real input for tests: what a lightningd said, and its database.

use crate::record::Batch;
use backstop_protocol::id::{NodeId, RunId};
use serde::Deserialize;
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

/// Every `db_write` of one node.
pub(crate) const TRACE: &str = "cln-v26.06-trace.jsonl.zst";
/// That node's database after it stopped.
pub(crate) const FINAL: &str = "cln-v26.06-final.sqlite3.zst";
/// Main file as copied inside the hook of `data_version` 3570; its journal lies beside it.
pub(crate) const MID: &str = "cln-v26.06-mid/lightningd.sqlite3.zst";
/// The journal of [`MID`].
pub(crate) const MID_JOURNAL: &str = "cln-v26.06-mid/lightningd.sqlite3-journal.zst";
/// The version that [`MID`] recovers to.
pub(crate) const MID_VERSION: u64 = 3569;

/// The folder of the fixtures; `None`, said aloud, where there is none.
pub(crate) fn folder() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures");
    let folder = std::env::var_os("BACKSTOP_FIXTURES").map_or(beside, PathBuf::from);
    if folder.join(TRACE).exists() {
        return Some(folder);
    }
    eprintln!(
        "no fixtures in {}: this test proves nothing here",
        folder.display()
    );
    None
}

/// Unpacks one fixture.
pub(crate) fn unpack(folder: &Path, name: &str, to: &Path) {
    let packed = fs::File::open(folder.join(name)).unwrap();
    let mut bytes = Vec::new();
    zstd::Decoder::new(packed)
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    fs::write(to, bytes).unwrap();
}

/// The node of a database.
pub(crate) fn node_of(database: &Path) -> NodeId {
    let conn = rusqlite::Connection::open(database).unwrap();
    crate::replay::check::node_id(&conn).unwrap().unwrap()
}

#[derive(Deserialize)]
struct Line {
    run: u8,
    data_version: u64,
    writes: Vec<String>,
}

/// All batches of the trace, in order.
pub(crate) fn trace(folder: &Path) -> impl Iterator<Item = Batch> {
    let packed = fs::File::open(folder.join(TRACE)).unwrap();
    let mut last_run = 0;
    BufReader::new(zstd::Decoder::new(packed).unwrap())
        .lines()
        .map(move |line| {
            let line: Line = serde_json::from_str(&line.unwrap()).unwrap();
            let opens_run = line.run != last_run;
            last_run = line.run;
            Batch {
                run: RunId([line.run; 16]),
                opens_run,
                outside_transaction: line.writes.iter().all(|write| write.starts_with("PRAGMA")),
                data_version: line.data_version,
                statements: line.writes.into_iter().map(String::into_bytes).collect(),
            }
        })
}
