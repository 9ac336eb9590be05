//! The conformance suite on PostgreSQL, and what is PostgreSQL's own.

#[path = "../../../tests/http/support/cluster.rs"]
mod cluster;

use super::*;
use crate::store::{
    Refusal,
    conformance::{self, Session},
};
use cluster::Cluster;
use getrandom::{SysRng, rand_core::UnwrapErr};
use std::sync::Arc;

const SERVER: ServerKey = ServerKey([7; 32]);

async fn open(url: &str) -> Result<PostgresStore, OpenError> {
    PostgresStore::open(url, SERVER, RollUpPolicy::default(), &mut UnwrapErr(SysRng)).await
}

/// A store in a database of its own.
async fn new() -> (Arc<PostgresStore>, String) {
    let cluster = Cluster::shared();
    let url = cluster.url(&cluster.database());
    (Arc::new(open(&url).await.unwrap()), url)
}

macro_rules! on_postgres {
    ($($rule:ident,)*) => {
        $(
            #[tokio::test]
            async fn $rule() {
                let (store, _) = new().await;
                conformance::$rule(store.clone()).await;
                store.close().await;
            }
        )*
    };
}

conformance::for_every_rule!(on_postgres);
