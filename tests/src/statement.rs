//! One SQL statement with its values, as lightningd binds it and as it reports it.

use rusqlite::{
    Connection, ToSql, params_from_iter,
    types::{ToSqlOutput, ValueRef},
};

/// A bound value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// NULL.
    Null,
    /// An integer; lightningd's u64 from 2^63 on appear negative.
    Int(i64),
    /// Bytes.
    Blob(Vec<u8>),
    /// Text, not always UTF-8: lightningd stores what peers and users say.
    Text(Vec<u8>),
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(value) => ValueRef::Integer(*value),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
            Self::Text(bytes) => ValueRef::Text(bytes),
        }))
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Int(value.cast_signed())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.as_bytes().to_vec())
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Blob(bytes)
    }
}

/// SQL with a `?` for every value; no `?` stands in its literals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    sql: String,
    values: Vec<Value>,
}

/// A statement from SQL and the values of its question marks.
#[macro_export]
macro_rules! sql {
    ($sql:expr $(, $value:expr)* $(,)?) => {
        $crate::statement::Statement::new($sql, vec![$($crate::statement::Value::from($value)),*])
    };
}

impl Statement {
    /// See the macro `sql!`.
    pub fn new(sql: impl Into<String>, values: Vec<Value>) -> Self {
        Self {
            sql: sql.into(),
            values,
        }
    }

    /// Executes it as lightningd does, with bound values; how many rows it changed.
    pub fn execute(&self, on: &Connection) -> rusqlite::Result<usize> {
        let mut prepared = on.prepare(&self.sql)?;
        // A PRAGMA may answer with a row, which `execute` would call an error.
        if prepared.column_count() > 0 {
            let mut rows = prepared.query(params_from_iter(&self.values))?;
            while rows.next()?.is_some() {}
            return Ok(0);
        }
        prepared.execute(params_from_iter(&self.values))
    }

    /// What goes into `writes`: SQLite's own expansion of the values.
    pub fn expanded(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.sql.len() + 64);
        let mut values = self.values.iter();
        for byte in self.sql.bytes() {
            match byte {
                b'?' => push_literal(&mut out, values.next().unwrap_or(&Value::Null)),
                other => out.push(other),
            }
        }
        out
    }
}

fn push_literal(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.extend_from_slice(b"NULL"),
        Value::Int(value) => out.extend_from_slice(value.to_string().as_bytes()),
        Value::Blob(bytes) => {
            out.extend_from_slice(b"x'");
            out.extend_from_slice(hex::encode(bytes).as_bytes());
            out.push(b'\'');
        }
        Value::Text(bytes) => {
            out.push(b'\'');
            for &byte in bytes {
                out.push(byte);
                if byte == b'\'' {
                    out.push(byte);
                }
            }
            out.push(b'\'');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reported_text_stands_for_the_bound_values() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("CREATE TABLE t (a, b, c, d); CREATE TABLE u (a, b, c, d)")
            .unwrap();
        let values = |table: &str| {
            sql!(
                format!("INSERT INTO {table} VALUES (?, ?, ?, ?)"),
                u64::MAX,
                "it's \u{e9}\n",
                vec![0_u8, 255],
                Value::Null
            )
        };
        values("t").execute(&connection).unwrap();
        let text = String::from_utf8(values("u").expanded()).unwrap();
        assert_eq!(text, "INSERT INTO u VALUES (-1, 'it''s \u{e9}\n', x'00ff', NULL)");
        connection.execute(&text, []).unwrap();
        let different: i64 = connection
            .query_row(
                "SELECT count(*) FROM (SELECT * FROM t EXCEPT SELECT * FROM u)",
                [],
                |r| r.get(0),
            )
            .unwrap();
        assert_eq!(different, 0);
    }
}
