//! What is checked before a database is used, and why it may not be.

use super::cells::{query, scalar};
use crate::store::StoreId;
use backstop_protocol::id::ServerKey;
use sqlx::{
    Connection as _, PgConnection, Row as _,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions, PgRow},
    raw_sql,
};
use std::{collections::BTreeMap, time::Duration};

/// In the order in which they are applied.
pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/postgres");

/// How long to wait for a connection: a database that starts again is there in seconds.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// A connection is opened anew after this time, and what I1 rests on is checked again.
pub(super) const CONNECTION_LIFE: Duration = Duration::from_mins(15);
/// The name of the lock that migrations are applied under; it goes with the transaction.
const MIGRATION_LOCK: &str = "SELECT pg_advisory_xact_lock(hashtext('backstop migrations'))";

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL names no database. It may hold a password, and is not repeated.
    #[error(
        "the URL of the database is none of PostgreSQL's; it looks like postgres://user@host:5432/backstop"
    )]
    Url,
    /// Older than 14.
    #[error("the database is PostgreSQL {0}; backstop-server needs 14 or later")]
    TooOld(String),
    /// PostgreSQL does not promise what an acknowledgement rests on (I1).
    #[error(
        "PostgreSQL does not keep what is committed here: {setting} is {found}. After a power cut or a failover acknowledged records could be gone, and nodes would halt; set {setting} = on in postgresql.conf, reload it, and start again"
    )]
    NotDurable {
        /// The setting that is wrong.
        setting: &'static str,
        /// What it is.
        found: String,
    },
    /// Nothing can be written: a standby, or made so.
    #[error(
        "the database is read-only: it is a standby, or default_transaction_read_only is on; give --database the primary"
    )]
    ReadOnly,
    /// The database was written by a newer program.
    #[error(
        "the database was written by a newer backstop-server (it knows migration {0}); run that version or a later one"
    )]
    Newer(i64),
    /// A migration that was applied is not the one that this program knows.
    #[error(
        "migration {0} in the database is not this program's; run the version of backstop-server that made the database, or a later one"
    )]
    OtherMigration(i64),
    /// Not at this program's version, where nothing may be brought up to date.
    #[error(
        "the database belongs to another version of backstop-server, or to none; use the program that serves it, or bring it up to date with: backstop-server migrate"
    )]
    OtherVersion,
    /// Another server's.
    #[error(
        "the database belongs to the server with the key {}, and this one has {}; nodes pinned the first: put its identity.key into this server's data directory", .expected, .found
    )]
    OtherIdentity {
        /// The database's.
        expected: ServerKey,
        /// Ours.
        found: ServerKey,
    },
    /// PostgreSQL failed, or cannot be reached.
    #[error("PostgreSQL did not do what it was asked")]
    Database(#[from] sqlx::Error),
}

/// Where the database is, from its URL.
pub(super) fn options(url: &str) -> Result<PgConnectOptions, OpenError> {
    if !["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
    {
        return Err(OpenError::Url);
    }
    let options: PgConnectOptions = url.parse().map_err(|_| OpenError::Url)?;
    Ok(options
        .application_name("backstop-server")
        // A pooler hands each transaction another session: none may hold statements, and none may start with settings.
        .statement_cache_capacity(0)
        .extra_float_digits(None))
}

/// How connections are made and kept: each is asked for what I1 rests on before it is used.
pub(super) fn pool(most: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(most)
        .acquire_timeout(CONNECT_WAIT)
        .max_lifetime(CONNECTION_LIFE)
        .after_connect(|connection, _| {
            Box::pin(async move {
                match check_flushes(connection).await {
                    Ok(()) => Ok(()),
                    Err(OpenError::Database(error)) => Err(error),
                    Err(error) => Err(sqlx::Error::Configuration(error.into())),
                }
            })
        })
}

/// PostgreSQL's word for what I1 rests on and no transaction can ask for itself.
async fn check_flushes(connection: &mut PgConnection) -> Result<(), OpenError> {
    let row: PgRow = raw_sql("SELECT current_setting('fsync'), current_setting('full_page_writes')")
        .fetch_one(connection)
        .await?;
    for (at, setting) in ["fsync", "full_page_writes"].into_iter().enumerate() {
        let found: String = row.try_get(at)?;
        if found != "on" {
            return Err(OpenError::NotDurable { setting, found });
        }
    }
    Ok(())
}

/// The whole of what I1 rests on; whether commits wait for a standby to apply them too. Every transaction asks for a
/// durable commit by itself; where it is off for all others, somebody wants another database than we do.
pub(super) async fn check_durable(connection: &mut PgConnection) -> Result<bool, OpenError> {
    check_flushes(connection).await?;
    let row: PgRow = raw_sql("SHOW synchronous_commit").fetch_one(connection).await?;
    let found: String = row.try_get(0)?;
    match found.as_str() {
        "on" => Ok(false),
        "remote_apply" => Ok(true),
        _ => Err(OpenError::NotDurable {
            setting: "synchronous_commit",
            found,
        }),
    }
}

/// Old servers, and those that take no writes, are refused before anything is tried.
pub(super) async fn check_usable(connection: &mut PgConnection) -> Result<(), OpenError> {
    let row: PgRow = raw_sql(
        "SELECT current_setting('server_version'), current_setting('server_version_num')::int >= 140000,
            pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool",
    )
    .fetch_one(connection)
    .await?;
    if !row.try_get::<bool, _>(1)? {
        return Err(OpenError::TooOld(row.try_get(0)?));
    }
    if row.try_get(2)? {
        return Err(OpenError::ReadOnly);
    }
    Ok(())
}

/// The migrations that were applied, with their hashes.
async fn applied(connection: &mut PgConnection) -> Result<BTreeMap<i64, Vec<u8>>, sqlx::Error> {
    let rows = query("SELECT version, checksum FROM migrations ORDER BY version")
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|row| Ok((row.try_get("version")?, row.try_get("checksum")?)))
        .collect()
}

/// Whether the database is at exactly this program's version.
pub(super) async fn is_current(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let found = applied(connection).await?;
    let known = MIGRATIONS
        .iter()
        .map(|migration| (migration.version, migration.checksum.to_vec()));
    Ok(found.into_iter().eq(known))
}

/// Whose database it is, if it is at this program's version.
pub(super) async fn owner(connection: &mut PgConnection) -> Result<ServerKey, OpenError> {
    // An empty database has no table of migrations.
    if !is_current(connection).await.unwrap_or_default() {
        return Err(OpenError::OtherVersion);
    }
    let key: Vec<u8> = scalar("SELECT server_key FROM store")
        .fetch_one(connection)
        .await?;
    let wrong = |_| sqlx::Error::Decode("the store's row".into());
    Ok(ServerKey(key.try_into().map_err(wrong)?))
}

/// Brings the database up to date, all or nothing, one server at a time; then learns its name and who it belongs to.
pub(super) async fn prepare(
    connection: &mut PgConnection,
    new_id: [u8; 16],
    server: ServerKey,
) -> Result<StoreId, OpenError> {
    let mut transaction = connection
        .begin_with("BEGIN; SET LOCAL synchronous_commit = on")
        .await?;
    raw_sql(MIGRATION_LOCK).execute(&mut *transaction).await?;
    raw_sql(
        "CREATE TABLE IF NOT EXISTS migrations (
            version    bigint      PRIMARY KEY,
            checksum   bytea       NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT now()
         )",
    )
    .execute(&mut *transaction)
    .await?;
    let found = applied(&mut transaction).await?;
    for (version, checksum) in &found {
        match MIGRATIONS.iter().find(|known| known.version == *version) {
            None => return Err(OpenError::Newer(*version)),
            Some(known) if known.checksum[..] != checksum[..] => {
                return Err(OpenError::OtherMigration(*version));
            }
            Some(_) => {}
        }
    }
    for migration in MIGRATIONS
        .iter()
        .filter(|known| !found.contains_key(&known.version))
    {
        raw_sql(migration.sql.clone()).execute(&mut *transaction).await?;
        query("INSERT INTO migrations (version, checksum) VALUES ($1, $2)")
            .bind(migration.version)
            .bind(&migration.checksum[..])
            .execute(&mut *transaction)
            .await?;
    }
    let id = name(&mut transaction, new_id, server).await?;
    transaction.commit().await?;
    Ok(id)
}

async fn name(
    connection: &mut PgConnection,
    new_id: [u8; 16],
    server: ServerKey,
) -> Result<StoreId, OpenError> {
    query("INSERT INTO store (one, id, server_key) VALUES (1, $1, $2) ON CONFLICT DO NOTHING")
        .bind(new_id.as_slice())
        .bind(server.0.as_slice())
        .execute(&mut *connection)
        .await?;
    let wrong = || sqlx::Error::Decode("the store's row".into());
    let id: Vec<u8> = scalar("SELECT id FROM store").fetch_one(&mut *connection).await?;
    let key: Vec<u8> = scalar("SELECT server_key FROM store")
        .fetch_one(connection)
        .await?;
    let expected = ServerKey(key.try_into().map_err(|_| wrong())?);
    if expected != server {
        return Err(OpenError::OtherIdentity {
            expected,
            found: server,
        });
    }
    Ok(StoreId(id.try_into().map_err(|_| wrong())?))
}
