//! Arrays as a statement's text has them: of numbers, and of bytes as hexadecimal digits. No text of anybody's is written so.

use backstop_protocol::clock::UnixMillis;
use std::fmt::{Display, Write as _};

/// Numbers, as one argument and the comma behind it.
pub(super) fn numbers(sql: &mut String, values: impl Iterator<Item = impl Number>) {
    array(sql, values, |sql, value| {
        // A String takes whatever is written.
        let _ = write!(sql, "{value}");
    });
}

/// Times, or NULL.
pub(super) fn times(sql: &mut String, values: impl Iterator<Item = Option<UnixMillis>>) {
    array(sql, values, |sql, value| {
        let _ = match value {
            Some(at) => write!(sql, "{}", at.0),
            None => sql.write_str(NULL),
        };
    });
}

/// Bytes, or NULL.
pub(super) fn blobs<'a, B: AsRef<[u8]> + ?Sized + 'a>(
    sql: &mut String,
    values: impl Iterator<Item = Option<&'a B>>,
) {
    array(sql, values, |sql, value| match value {
        Some(bytes) => {
            sql.push_str("\"\\\\\\\\x");
            sql.push_str(&hex::encode(bytes));
            sql.push('"');
        }
        None => sql.push_str(NULL),
    });
}

const NULL: &str = "NULL";

/// What is written as digits, with or without a sign.
pub(super) trait Number: Display {}
impl Number for i64 {}
impl Number for u64 {}
impl Number for usize {}

fn array<T>(sql: &mut String, values: impl Iterator<Item = T>, element: impl Fn(&mut String, T)) {
    // However the database reads backslashes in other texts.
    sql.push_str("E'{");
    for (at, value) in values.enumerate() {
        if at > 0 {
            sql.push(',');
        }
        element(sql, value);
    }
    sql.push_str("}',");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_written_as_postgresql_reads_them() {
        let mut sql = String::new();
        numbers(&mut sql, [1_i64, -2].into_iter());
        times(&mut sql, [None, Some(UnixMillis(3))].into_iter());
        blobs(&mut sql, [Some(&[0_u8, 255][..]), None].into_iter());
        assert_eq!(sql, r#"E'{1,-2}',E'{NULL,3}',E'{"\\\\x00ff",NULL}',"#);
    }
}
