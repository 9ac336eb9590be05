//! What a `db_write` batch says about versions (CLN reference 1.5).

use super::message::RawBatch;

/// A batch as it stands to the database's versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Versions {
    /// The version of the database before this batch, as committed.
    pub(super) before: u64,
    /// The version once it is committed.
    pub(super) after: u64,
    /// Whether it holds PRAGMAs only, reported outside any transaction: then both are the same.
    pub(super) outside_transaction: bool,
}

/// A batch that contradicts itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its last statement and its data_version do not fit each other")]
pub(super) struct Contradiction;

/// Reads the versions of a batch. The last statement of every real transaction is the update of `data_version`,
/// which names the version before; a batch without it ran outside a transaction and repeats a committed version.
pub(super) fn versions(batch: &RawBatch) -> Result<Versions, Contradiction> {
    let after = batch.data_version;
    match batch.writes.last().and_then(|statement| predecessor(statement)) {
        Some(before) if before.checked_add(1) == Some(after) => Ok(Versions {
            before,
            after,
            outside_transaction: false,
        }),
        None if batch.writes.iter().all(|statement| is_pragma(statement)) => Ok(Versions {
            before: after,
            after,
            outside_transaction: true,
        }),
        // Writes without the update, or with another one, would change the database under a version that says nothing.
        _ => Err(Contradiction),
    }
}

/// The statement is CLN's own text, the same since 2019.
pub(crate) fn predecessor(statement: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(statement).ok()?;
    let text = text.trim_end_matches(|c: char| c == ';' || c.is_ascii_whitespace());
    text.strip_prefix("UPDATE vars SET intval = intval + 1 WHERE name = 'data_version' AND intval = ")?
        .parse()
        .ok()
}

fn is_pragma(statement: &[u8]) -> bool {
    statement
        .trim_ascii_start()
        .get(..6)
        .is_some_and(|word| word.eq_ignore_ascii_case(b"PRAGMA"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(data_version: u64, writes: &[&str]) -> RawBatch {
        RawBatch {
            data_version,
            writes: writes.iter().map(|w| w.as_bytes().to_vec()).collect(),
        }
    }

    const TO_12: &str = "UPDATE vars SET intval = intval + 1 WHERE name = 'data_version' AND intval = 11";

    #[test]
    fn the_last_statement_names_the_version_before() {
        let versions = versions(&batch(12, &["DELETE FROM x;", TO_12])).unwrap();
        assert_eq!(
            versions,
            Versions {
                before: 11,
                after: 12,
                outside_transaction: false
            }
        );
    }

    #[test]
    fn a_batch_of_pragmas_repeats_a_version() {
        let versions = versions(&batch(12, &["PRAGMA foreign_keys = OFF;"])).unwrap();
        assert_eq!(
            versions,
            Versions {
                before: 12,
                after: 12,
                outside_transaction: true
            }
        );
    }

    #[test]
    fn a_batch_that_contradicts_itself_is_refused() {
        for bad in [
            batch(13, &[TO_12]),
            batch(11, &[TO_12]),
            batch(12, &[TO_12, "DELETE FROM x"]),
            batch(12, &["DELETE FROM x"]),
            batch(12, &["PRAGMA foreign_keys = OFF;", "DELETE FROM x"]),
        ] {
            assert_eq!(versions(&bad), Err(Contradiction));
        }
    }
}
