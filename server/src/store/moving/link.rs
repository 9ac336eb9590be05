//! One connection to a database of either kind, and values as both have them. The statements are the same for both.

use super::MoveError;
use crate::store::{operator::OperatorError, postgres, sqlite};
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, Row as _, SqliteConnection, postgres::PgRow,
    sqlite::SqliteRow,
};
use std::path::PathBuf;

/// Where a database is.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// A SQLite file.
    File(PathBuf),
    /// PostgreSQL at a URL, which may hold a password.
    Url(String),
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    Bytes,
    Text,
    /// PostgreSQL has a type for it, SQLite a number.
    Truth,
}

impl Kind {
    /// From a column's type by the catalogue.
    fn of(type_: &str) -> Option<Self> {
        match type_.to_ascii_lowercase().as_str() {
            "integer" | "bigint" => Some(Self::Int),
            "blob" | "bytea" => Some(Self::Bytes),
            "text" => Some(Self::Text),
            "boolean" => Some(Self::Truth),
            _ => None,
        }
    }
}

/// A value. Within a column all are of one kind, and ordered as both databases order them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cell {
    Null,
    Int(i64),
    Bytes(Vec<u8>),
    Text(String),
}

impl Cell {
    pub(super) fn int(&self) -> i64 {
        match self {
            Self::Int(value) => *value,
            _ => 0,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(value) => value,
            _ => &[],
        }
    }
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Kind,
}

pub(super) type Row = Vec<Cell>;

/// Binds values by their kinds; `$truth` is how a truth is bound.
macro_rules! bound {
    ($query:expr, $values:expr, $truth:expr) => {{
        let mut query = $query;
        for (kind, cell) in $values {
            query = match (kind, cell) {
                (Kind::Int, Cell::Int(value)) => query.bind(*value),
                (Kind::Int, _) => query.bind(None::<i64>),
                (Kind::Bytes, Cell::Bytes(value)) => query.bind(value.clone()),
                (Kind::Bytes, _) => query.bind(None::<Vec<u8>>),
                (Kind::Text, Cell::Text(value)) => query.bind(value.clone()),
                (Kind::Text, _) => query.bind(None::<String>),
                (Kind::Truth, cell) => query.bind($truth(cell)),
            };
        }
        query
    }};
}

fn as_number(cell: &Cell) -> Option<i64> {
    matches!(cell, Cell::Int(_)).then(|| cell.int())
}

fn as_truth(cell: &Cell) -> Option<bool> {
    as_number(cell).map(|value| value != 0)
}

macro_rules! cell {
    ($row:expr, $at:expr, $kind:expr, $truth:ty) => {
        Ok(match $kind {
            Kind::Int => $row.try_get_unchecked::<Option<i64>, _>($at)?.map(Cell::Int),
            Kind::Bytes => $row
                .try_get_unchecked::<Option<Vec<u8>>, _>($at)?
                .map(Cell::Bytes),
            Kind::Text => $row.try_get_unchecked::<Option<String>, _>($at)?.map(Cell::Text),
            Kind::Truth => $row
                .try_get_unchecked::<Option<$truth>, _>($at)?
                .map(|value| Cell::Int(i64::from(value))),
        }
        .unwrap_or(Cell::Null))
    };
}

fn sqlite_row(row: &SqliteRow, kinds: &[Kind]) -> Result<Row, sqlx::Error> {
    let cells = kinds.iter().enumerate();
    cells.map(|(at, kind)| cell!(row, at, kind, i64)).collect()
}

fn postgres_row(row: &PgRow, kinds: &[Kind]) -> Result<Row, sqlx::Error> {
    let cells = kinds.iter().enumerate();
    cells.map(|(at, kind)| cell!(row, at, kind, bool)).collect()
}

/// A connection.
pub(super) enum Link {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Link {
    /// Connects to a database of this program's version, whatever becomes of it.
    pub(super) async fn connect(database: &Database) -> Result<Self, OperatorError> {
        Ok(match database {
            Database::File(file) => Self::Sqlite(sqlite::operator::reach(file).await?),
            Database::Url(url) => Self::Postgres(postgres::operator::reach(url).await?),
        })
    }

    pub(super) fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// A statement with values; how many rows it changed.
    pub(super) async fn run(&mut self, sql: &str, values: &[(Kind, Cell)]) -> Result<u64, MoveError> {
        let sql = AssertSqlSafe(sql.to_owned());
        Ok(match self {
            Self::Sqlite(connection) => {
                let query = bound!(sqlx::query(sql), values, as_number);
                query.execute(connection).await?.rows_affected()
            }
            Self::Postgres(connection) => {
                let query = bound!(sqlx::query(sql).persistent(false), values, as_truth);
                query.execute(connection).await?.rows_affected()
            }
        })
    }

    /// Statements without values, one after the other.
    pub(super) async fn script(&mut self, sql: &str) -> Result<(), MoveError> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self {
            Self::Sqlite(connection) => sql.execute(connection).await.map(drop)?,
            Self::Postgres(connection) => sql.execute(connection).await.map(drop)?,
        }
        Ok(())
    }

    /// The rows that a statement answers with, of columns of these kinds.
    pub(super) async fn rows(
        &mut self,
        sql: &str,
        values: &[(Kind, Cell)],
        kinds: &[Kind],
    ) -> Result<Vec<Row>, MoveError> {
        let sql = AssertSqlSafe(sql.to_owned());
        let rows: Result<Vec<Row>, sqlx::Error> = match self {
            Self::Sqlite(connection) => {
                let query = bound!(sqlx::query(sql), values, as_number);
                let rows = query.fetch_all(connection).await?;
                rows.iter().map(|row| sqlite_row(row, kinds)).collect()
            }
            Self::Postgres(connection) => {
                let query = bound!(sqlx::query(sql).persistent(false), values, as_truth);
                let rows = query.fetch_all(connection).await?;
                rows.iter().map(|row| postgres_row(row, kinds)).collect()
            }
        };
        Ok(rows?)
    }

    /// The one number that a statement answers with; 0 for none.
    pub(super) async fn number(&mut self, sql: &str, values: &[(Kind, Cell)]) -> Result<i64, MoveError> {
        let rows = self.rows(sql, values, &[Kind::Int]).await?;
        Ok(rows.first().and_then(|row| row.first()).map_or(0, Cell::int))
    }

    /// Begins to read one state, until [`Link::end`].
    pub(super) async fn view(&mut self) -> Result<(), MoveError> {
        let begin = if self.is_postgres() {
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        } else {
            "BEGIN"
        };
        self.script(begin).await
    }

    /// Begins to write, until [`Link::end`]; success of that means that all of it is durable (I1).
    pub(super) async fn write(&mut self) -> Result<(), MoveError> {
        let begin = if self.is_postgres() {
            postgres::operator::BEGIN
        } else {
            "BEGIN IMMEDIATE"
        };
        self.script(begin).await
    }

    pub(super) async fn end(&mut self) -> Result<(), MoveError> {
        self.script("COMMIT").await
    }

    pub(super) async fn undo(&mut self) {
        // Where the connection is lost, so is the transaction.
        let _ = self.script("ROLLBACK").await;
    }

    /// The columns of a table, by name.
    pub(super) async fn columns(&mut self, table: &str) -> Result<Vec<Column>, MoveError> {
        let sql = if self.is_postgres() {
            "SELECT column_name::text, data_type::text FROM information_schema.columns
             WHERE table_schema = current_schema() AND table_name = $1 ORDER BY column_name COLLATE \"C\""
        } else {
            "SELECT name, type FROM pragma_table_info($1) ORDER BY name"
        };
        let named = [(Kind::Text, Cell::Text(table.to_owned()))];
        let rows = self.rows(sql, &named, &[Kind::Text, Kind::Text]).await?;
        let column = |row: Row| match <[Cell; 2]>::try_from(row) {
            Ok([Cell::Text(name), Cell::Text(type_)]) => {
                let kind = Kind::of(&type_)?;
                Some(Column { name, kind })
            }
            _ => None,
        };
        let columns: Option<Vec<_>> = rows.into_iter().map(column).collect();
        columns.ok_or_else(|| MoveError::Schema(table.to_owned()))
    }

    /// How an insertion may name numbers that the database would choose itself.
    pub(super) fn overriding(&self) -> &'static str {
        if self.is_postgres() {
            "OVERRIDING SYSTEM VALUE "
        } else {
            ""
        }
    }

    pub(super) async fn close(self) -> Result<(), MoveError> {
        match self {
            Self::Sqlite(connection) => connection.close().await?,
            Self::Postgres(connection) => connection.close().await?,
        }
        Ok(())
    }
}
