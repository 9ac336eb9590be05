//! Bytes that a server keeps for each byte of SQL.

use super::{
    database,
    input::Input,
    report::{Bar, Report, Unit},
};
use crate::servers::Server;
use anyhow::Result;
use rusqlite::Connection;

const BAR: Option<Bar> = Some(Bar::RatioAtMost(0.20));

/// After the input went through the hook: its records, of these lengths, and the server's file with all of it.
pub fn measure(server: &Server, input: &Input, sizes: &[usize], report: &mut Report) -> Result<()> {
    let float = |bytes: u64| u32::try_from(bytes).map_or(f64::MAX, f64::from);
    let sql = float(input.sql_bytes());
    let sealed = sizes.iter().map(|len| *len as u64).sum();
    report.compare("bytes: records (bare: SQL)", Unit::Bytes, float(sealed), sql, BAR);
    let path = server.data().join(database::FILE);
    // What the log of SQLite's own holds belongs to the file.
    Connection::open(&path)?.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    let file = std::fs::metadata(&path)?.len();
    report.compare(
        "bytes: the server's file (bare: SQL)",
        Unit::Bytes,
        float(file),
        sql,
        BAR,
    );
    Ok(())
}
