//! Between PostgreSQL's values and ours, beyond what is alike in every database: statements, errors.

use crate::store::StoreError;
pub(super) use crate::store::cells::*;
use backstop_protocol::id::ChunkId;
use sqlx::{
    Postgres,
    postgres::{PgArguments, PgDatabaseError},
    query::QueryScalar,
};

/// `disk_full`.
const FULL: &str = "53100";
/// Read-only, as a standby is; not waited for any longer: a lock, a statement; too many connections, too little memory,
/// shutting down or starting; gone over to a standby; handed over to another store.
const AWAY: [&str; 12] = [
    "25006", "55P03", "57014", "53300", "53200", "53400", "57P01", "57P02", "57P03", "25P03", "57P05",
    "BS001",
];
/// Two transactions were in each other's way: a serialization failure, a deadlock.
const IN_THE_WAY: [&str; 2] = ["40001", "40P01"];
/// One key was entered twice: by two transactions at once, of which the second finds it when it is run again.
const TWICE: &str = "23505";

fn code(error: &sqlx::Error) -> Option<&str> {
    let sqlx::Error::Database(cause) = error else {
        return None;
    };
    Some(cause.try_downcast_ref::<PgDatabaseError>()?.code())
}

/// What an error of PostgreSQL, or of the way to it, means.
pub(in crate::store) fn trouble(error: &sqlx::Error) -> Option<StoreError> {
    let away = || Some(StoreError::Unavailable(error.to_string()));
    match error {
        // SQLite has no connection that could be lost.
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::BeginFailed => {
            away()
        }
        _ => match code(error)? {
            FULL => Some(StoreError::Full),
            // Class 08: the connection.
            code if AWAY.contains(&code) || code.starts_with("08") => away(),
            _ => None,
        },
    }
}

fn code_of(error: &StoreError) -> Option<&str> {
    let StoreError::Failed(cause) = error else {
        return None;
    };
    cause.downcast_ref::<sqlx::Error>().and_then(code)
}

/// Whether another transaction was in the way, and nothing else is wrong.
pub(super) fn in_the_way(error: &StoreError) -> bool {
    code_of(error).is_some_and(|code| IN_THE_WAY.contains(&code))
}

/// Whether the whole transaction that failed so may succeed when it is run again.
pub(super) fn conflicts(error: &StoreError) -> bool {
    in_the_way(error) || code_of(error) == Some(TWICE)
}

/// A statement to which values are being bound.
pub(super) type Query<'q> = sqlx::query::Query<'q, Postgres, PgArguments>;

/// A statement that leaves nothing behind in its session: behind a pooler the next transaction is in another one.
pub(super) fn query(sql: &'static str) -> Query<'static> {
    sqlx::query(sql).persistent(false)
}

/// The same, for one column.
pub(super) fn scalar<T>(sql: &'static str) -> QueryScalar<'static, Postgres, T, PgArguments>
where
    (T,): for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow>,
{
    sqlx::query_scalar(sql).persistent(false)
}

/// Ids as an array of bytea.
pub(super) fn ids(ids: &[ChunkId]) -> Vec<&[u8]> {
    ids.iter().map(|id| id.0.as_slice()).collect()
}
