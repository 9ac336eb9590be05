//! Tenants in SQLite.

crate::store::tenants::tenants!(
    sqlx::SqliteConnection,
    sqlx::query,
    sqlx::query_scalar,
    super::accounts::load
);
