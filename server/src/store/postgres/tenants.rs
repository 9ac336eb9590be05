//! Tenants in PostgreSQL.

crate::store::tenants::tenants!(
    sqlx::PgConnection,
    super::cells::query,
    super::cells::scalar,
    super::accounts::lock
);
