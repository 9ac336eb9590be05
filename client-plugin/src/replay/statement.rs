//! One statement as lightningd reported it: bytes, executed alone.
//!
//! `sqlite3_expanded_sql()` copies text values as they are, and nothing makes a peer's text valid UTF-8. `SQLite` does
//! not mind; the Rust binding takes `&str` alone. So a text literal that is not UTF-8 becomes a parameter bound to
//! the same bytes: a parameter has no affinity and no collation, exactly as a literal, and the stored value is the same.

use super::ReplayError;
use rusqlite::{
    Connection,
    types::{ToSqlOutput, ValueRef},
};
use std::borrow::Cow;

/// A statement ready for the binding.
#[derive(Debug, PartialEq, Eq)]
struct Prepared<'a> {
    sql: Cow<'a, str>,
    /// Bytes of the text literals that were taken out, in order.
    texts: Vec<Vec<u8>>,
}

/// Executes one statement to its end. Whatever rows it returns are dropped.
pub(super) fn execute(conn: &Connection, statement: &[u8]) -> Result<(), ReplayError> {
    // SQLite stops reading at a NUL: what follows would silently not be executed.
    if memchr::memchr(0, statement).is_some() {
        return Err(ReplayError::Forbidden("a NUL byte in a statement"));
    }
    refuse_control(statement)?;
    let prepared = prepare(statement)?;
    let mut statement = conn.prepare(&prepared.sql)?;
    for (index, text) in prepared.texts.iter().enumerate() {
        statement.raw_bind_parameter(index + 1, ToSqlOutput::Borrowed(ValueRef::Text(text)))?;
    }
    // Any other parameter would be bound to NULL in silence: lightningd expands all of them.
    if statement.parameter_count() != prepared.texts.len() {
        return Err(ReplayError::Forbidden("an unbound parameter in a statement"));
    }
    let mut rows = statement.raw_query();
    while rows.next()?.is_some() {}
    Ok(())
}

/// Statements that would end the batch's transaction or reach another file. lightningd reports none of them.
fn refuse_control(statement: &[u8]) -> Result<(), ReplayError> {
    const REFUSED: [&str; 9] = [
        "ATTACH",
        "DETACH",
        "BEGIN",
        "COMMIT",
        "END",
        "ROLLBACK",
        "SAVEPOINT",
        "RELEASE",
        "VACUUM",
    ];
    let word = first_word(statement);
    match REFUSED
        .iter()
        .find(|refused| word.eq_ignore_ascii_case(refused.as_bytes()))
    {
        Some(refused) => Err(ReplayError::Forbidden(refused)),
        None => Ok(()),
    }
}

/// The first keyword, behind blanks, semicolons and comments.
fn first_word(statement: &[u8]) -> &[u8] {
    let mut rest = statement;
    loop {
        let blank = rest
            .iter()
            .take_while(|b| b.is_ascii_whitespace() || **b == b';')
            .count();
        rest = rest.get(blank..).unwrap_or_default();
        let token = token(rest);
        if !matches!(token.kind, Kind::Comment) {
            break;
        }
        rest = rest.get(token.len..).unwrap_or_default();
    }
    let word = rest.iter().take_while(|b| b.is_ascii_alphabetic()).count();
    rest.get(..word).unwrap_or_default()
}

fn prepare(statement: &[u8]) -> Result<Prepared<'_>, ReplayError> {
    match std::str::from_utf8(statement) {
        Ok(sql) => Ok(Prepared {
            sql: Cow::Borrowed(sql),
            texts: Vec::new(),
        }),
        Err(_) => take_texts(statement),
    }
}

/// Replaces each text literal that is not UTF-8 by a numbered parameter.
fn take_texts(statement: &[u8]) -> Result<Prepared<'_>, ReplayError> {
    let mut sql = String::with_capacity(statement.len());
    let mut texts = Vec::new();
    let mut rest = statement;
    while !rest.is_empty() {
        let token = token(rest);
        let (bytes, tail) = rest.split_at_checked(token.len).unwrap_or((rest, &[]));
        rest = tail;
        match std::str::from_utf8(bytes) {
            Ok(text) => sql.push_str(text),
            Err(_) if token.kind == Kind::Text => {
                texts.push(unquote(bytes).ok_or(ReplayError::Forbidden("an unfinished text literal"))?);
                // A number of its own, and blanks around: it must not run into a neighbouring word.
                sql.push_str(" ?");
                sql.push_str(&texts.len().to_string());
                sql.push(' ');
            }
            Err(_) => {
                return Err(ReplayError::Forbidden(
                    "bytes that are not UTF-8 outside a text literal",
                ));
            }
        }
    }
    Ok(Prepared {
        sql: Cow::Owned(sql),
        texts,
    })
}

/// The value of a text literal with its quotes; two quotes stand for one.
fn unquote(literal: &[u8]) -> Option<Vec<u8>> {
    let inner = literal.strip_prefix(b"'")?.strip_suffix(b"'")?;
    let mut value = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        value.push(*byte);
        if *byte == b'\'' && bytes.next() != Some(&b'\'') {
            return None;
        }
    }
    Some(value)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Comment,
    Other,
}

/// One token, as far as it matters where quotes begin and end.
struct Token {
    kind: Kind,
    len: usize,
}

/// The token at the start of `sql`, never longer than it, never empty where it is not.
fn token(sql: &[u8]) -> Token {
    let other = |len| Token {
        kind: Kind::Other,
        len,
    };
    match sql {
        [] => other(0),
        [b'\'', ..] => Token {
            kind: Kind::Text,
            len: quoted(sql, b'\''),
        },
        [quote @ (b'"' | b'`'), ..] => other(quoted(sql, *quote)),
        [b'[', rest @ ..] => other(memchr::memchr(b']', rest).map_or(sql.len(), |at| at + 2)),
        [b'-', b'-', rest @ ..] => Token {
            kind: Kind::Comment,
            len: memchr::memchr(b'\n', rest).map_or(sql.len(), |at| at + 3),
        },
        [b'/', b'*', rest @ ..] => Token {
            kind: Kind::Comment,
            len: memchr::memmem::find(rest, b"*/").map_or(sql.len(), |at| at + 4),
        },
        // Up to the next byte at which another kind of token may start.
        [_, rest @ ..] => other(
            1 + rest
                .iter()
                .take_while(|b| !matches!(b, b'\'' | b'"' | b'`' | b'[' | b'-' | b'/'))
                .count(),
        ),
    }
}

/// Length of the quoted token at the start of `sql`; a doubled quote does not end it.
fn quoted(sql: &[u8], quote: u8) -> usize {
    let mut at = 1;
    loop {
        let Some(found) = sql.get(at..).and_then(|rest| memchr::memchr(quote, rest)) else {
            return sql.len();
        };
        at += found + 1;
        if sql.get(at) != Some(&quote) {
            return at;
        }
        at += 1;
    }
}
