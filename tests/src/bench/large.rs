//! A node whose database is large: a file of a given length, of which a batch changes what it is told to.

use super::process::PluginProcess;
use crate::node::Node;
use anyhow::{Context, Result};
use rusqlite::Connection;
use std::time::Duration;

/// Bytes of a row; with what SQLite adds, four fill a page of 4 KiB.
const ROW: u64 = 980;
/// Rows that one page holds.
const ROWS_PER_PAGE: u64 = 4;

/// A running plugin in front of a generated database; what lightningd would commit nobody reads again, so it is not.
pub struct LargeNode {
    plugin: PluginProcess,
    version: u64,
    rows: u64,
    changed: u64,
}

/// How many rows a database of about so many bytes has.
fn rows(bytes: u64) -> u64 {
    bytes / 4096 * ROWS_PER_PAGE
}

impl LargeNode {
    /// Makes the database of about `bytes` and starts the plugin, which takes no batch yet.
    pub fn start(node: &Node, bytes: u64) -> Result<Self> {
        Self::fill(node, bytes)?;
        Self::start_filled(node, bytes)
    }

    /// Makes the database of about `bytes`, half of it random.
    pub fn fill(node: &Node, bytes: u64) -> Result<()> {
        let connection = Connection::open(node.database())?;
        connection.execute_batch(
            "PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF;
             CREATE TABLE vars (name TEXT PRIMARY KEY, intval INTEGER, blobval BLOB);
             INSERT INTO vars VALUES ('data_version', 1, NULL);
             CREATE TABLE large (id INTEGER PRIMARY KEY, random BLOB, plain TEXT);",
        )?;
        let fill =
            "INSERT INTO large WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ?1)
                    SELECT i, randomblob(?2), printf('%0*d', ?2, i) FROM n";
        connection.execute(fill, [i64::try_from(rows(bytes))?, i64::try_from(ROW / 2)?])?;
        Ok(connection.close().map_err(|(_, error)| error)?)
    }

    /// Changes a row in every hundredth page of the database, as a node that runs without a plugin does.
    pub fn age(node: &Node) -> Result<()> {
        let connection = Connection::open(node.database())?;
        connection.execute(
            "UPDATE large SET plain = substr(plain, 2) || '!' WHERE id % ?1 = 1",
            [i64::try_from(100 * ROWS_PER_PAGE)?],
        )?;
        Ok(connection.close().map_err(|(_, error)| error)?)
    }

    /// Starts the plugin in front of a database that [`Self::fill`] made of so many `bytes`.
    pub fn start_filled(node: &Node, bytes: u64) -> Result<Self> {
        Ok(Self {
            plugin: PluginProcess::start(node)?.0,
            version: 1,
            rows: rows(bytes),
            changed: 0,
        })
    }

    /// In front of no database, as a node is before its first start.
    pub fn start_small(node: &Node) -> Result<Self> {
        std::fs::File::create(node.database())?;
        Ok(Self {
            plugin: PluginProcess::start(node)?.0,
            version: 0,
            rows: 1,
            changed: 0,
        })
    }

    /// Most memory that the plugin had so far, bytes.
    pub fn memory(&self) -> Result<u64> {
        Ok(self.plugin.memory()?.1)
    }

    /// How many pages of rows there are.
    pub fn pages(&self) -> u64 {
        self.rows / ROWS_PER_PAGE
    }

    /// One batch that changes a row in each of so many pages, scattered over the file and none twice. How long the hook
    /// took.
    pub fn change(&mut self, pages: u64) -> Result<Duration> {
        // Co-prime to every number of pages that is asked for here, so that it visits each once.
        const STRIDE: u64 = 1_000_003;
        let mut writes = Vec::new();
        for _ in 0..pages {
            let page = self.changed.wrapping_mul(STRIDE) % self.pages().max(1);
            self.changed += 1;
            let row = 1 + page * ROWS_PER_PAGE;
            writes.push(
                format!(
                    "UPDATE large SET plain = '{:0len$}' WHERE id = {row};",
                    self.changed,
                    len = usize::try_from(ROW / 2).context("a small number")?
                )
                .into_bytes(),
            );
        }
        writes.push(
            format!(
                "UPDATE vars SET intval = intval + 1 WHERE name = 'data_version' AND intval = {}",
                self.version
            )
            .into_bytes(),
        );
        self.version += 1;
        self.plugin.db_write(self.version, &writes)
    }
}
