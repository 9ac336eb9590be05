//! Values as a statement's text has them: lists of numbers, bytes as hexadecimal digits, and words of ours. No text of anybody's is
//! written so.

use std::fmt::Write as _;

/// Rows of so many numbers each, or NULL, as one list: an argument and the comma behind it.
pub(super) fn numbers<const N: usize>(sql: &mut String, rows: impl Iterator<Item = [Option<u64>; N]>) {
    sql.push_str("'{");
    for (at, value) in rows.flatten().enumerate() {
        if at > 0 {
            sql.push(',');
        }
        // A String takes whatever is written.
        let _ = match value {
            Some(value) => write!(sql, "{value}"),
            None => sql.write_str("NULL"),
        };
    }
    sql.push_str("}',");
}

/// Pieces of bytes one behind the other: an argument and the comma behind it.
pub(super) fn bytes<'a>(sql: &mut String, pieces: impl Iterator<Item = &'a [u8]>) {
    // However the database reads backslashes in other texts.
    sql.push_str("E'\\\\x");
    let mut digits = Vec::new();
    for piece in pieces {
        digits.resize(2 * piece.len(), 0);
        // There is room for twice as many digits as bytes, and digits are text.
        let _ = hex::encode_to_slice(piece, &mut digits);
        sql.push_str(std::str::from_utf8(&digits).unwrap_or_default());
    }
    sql.push_str("',");
}

/// A word of ours that has no quotes in it: the last argument.
pub(super) fn word(sql: &mut String, word: &'static str) {
    sql.push('\'');
    sql.push_str(word);
    sql.push('\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_bytes_are_written_as_postgresql_reads_them() {
        let mut sql = String::new();
        numbers(&mut sql, [[Some(1), None], [Some(2), Some(u64::MAX)]].into_iter());
        bytes(&mut sql, [&[0_u8, 255][..], &[], &[16]].into_iter());
        word(&mut sql, "on");
        assert_eq!(sql, r"'{1,NULL,2,18446744073709551615}',E'\\x00ff10','on'");
    }
}
