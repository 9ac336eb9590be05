//! Batches back into a database (CLN reference 1.6). Written independently of the product's own replay, so that the
//! two can be held against each other.

use anyhow::{Context, Result, ensure};
use rusqlite::Connection;

/// Replays batches in order.
pub struct Replayer {
    connection: Connection,
}

impl Replayer {
    /// Goes on from the state of `connection`.
    pub fn new(connection: Connection) -> Result<Self> {
        connection.execute_batch("PRAGMA foreign_keys = ON; PRAGMA synchronous = OFF;")?;
        Ok(Self { connection })
    }

    /// The database so far.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Another run of lightningd begins: the setting of a migration that was cut off does not outlive it.
    pub fn start_run(&mut self) -> Result<()> {
        Ok(self.connection.execute_batch("PRAGMA foreign_keys = ON;")?)
    }

    /// One batch: PRAGMAs alone as they are, anything else in a transaction whose last statement must change the
    /// version.
    pub fn apply<S: AsRef<[u8]>>(&mut self, writes: &[S]) -> Result<()> {
        if writes.iter().all(|write| write.as_ref().starts_with(b"PRAGMA ")) {
            for write in writes {
                self.execute(write.as_ref())?;
            }
            return Ok(());
        }
        self.connection.execute_batch("BEGIN")?;
        let mut changed = 0;
        for write in writes {
            changed = self.execute(write.as_ref())?;
        }
        ensure!(changed == 1, "the version did not change");
        Ok(self.connection.execute_batch("COMMIT")?)
    }

    fn execute(&self, write: &[u8]) -> Result<usize> {
        let sql = as_utf8(write)?;
        self.connection
            .execute(&sql, [])
            .with_context(|| sql.chars().take(200).collect::<String>())
    }
}

/// A statement as UTF-8: a text that is not becomes a cast of its bytes, which SQLite stores unchanged.
fn as_utf8(write: &[u8]) -> Result<String> {
    if let Ok(text) = std::str::from_utf8(write) {
        return Ok(text.to_owned());
    }
    let mut out = Vec::new();
    let mut rest = write;
    while let Some(start) = rest.iter().position(|byte| *byte == b'\'') {
        let (before, quoted) = rest.split_at(start);
        let (value, end) = literal(quoted.get(1..).unwrap_or_default()).context("a quote without end")?;
        out.extend_from_slice(before);
        let (literal, after) = quoted.split_at(end + 1);
        if std::str::from_utf8(&value).is_ok() {
            out.extend_from_slice(literal);
        } else {
            out.extend_from_slice(format!("CAST(x'{}' AS TEXT)", hex::encode(value)).as_bytes());
        }
        rest = after;
    }
    out.extend_from_slice(rest);
    Ok(String::from_utf8(out)?)
}

/// The value of a text literal after its opening quote, and how many bytes it takes with its closing one.
fn literal(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut value = Vec::new();
    let mut at = 0;
    loop {
        let byte = *bytes.get(at)?;
        at += 1;
        if byte == b'\'' {
            if bytes.get(at) != Some(&b'\'') {
                return Some((value, at));
            }
            at += 1;
        }
        value.push(byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_not_utf8_keeps_its_bytes() {
        let mut replayer = Replayer::new(Connection::open_in_memory().unwrap()).unwrap();
        replayer
            .connection
            .execute_batch("CREATE TABLE vars (a, b, c)")
            .unwrap();
        replayer
            .apply(&[b"INSERT INTO vars VALUES ('it''s', '\xff''\xfe', x'00')"])
            .unwrap();
        let bytes: Vec<u8> = replayer
            .connection
            .query_row("SELECT CAST(b AS BLOB) FROM vars", [], |row| row.get(0))
            .unwrap();
        assert_eq!(bytes, b"\xff'\xfe");
        let kind: String = replayer
            .connection
            .query_row("SELECT typeof(b) FROM vars", [], |row| row.get(0))
            .unwrap();
        assert_eq!(kind, "text");
    }

    #[test]
    fn a_batch_that_changes_no_version_fails() {
        let mut replayer = Replayer::new(Connection::open_in_memory().unwrap()).unwrap();
        replayer
            .connection
            .execute_batch("CREATE TABLE vars (intval)")
            .unwrap();
        assert!(replayer.apply(&[b"UPDATE vars SET intval = 1"]).is_err());
    }
}
