//! What becomes of a store: who fills it, whether it is handed over, whether another went on in its place. There is one
//! place at any time that takes records for an identity, and these marks say which.

use super::{
    MoveError,
    link::{Cell, Database, Kind, Link},
    tables,
};
use crate::store::StoreId;
use backstop_protocol::clock::UnixMillis;
use std::time::Duration;

/// How often a hand-over is begun anew where servers' transactions are in its way.
const ATTEMPTS: u32 = 8;

/// Names one copy, so that of two at once the later alone goes on; random.
pub type Token = [u8; 16];

/// The marks of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) id: StoreId,
    pub(super) filling: bool,
    pub(super) handing_over: bool,
    pub(super) moved: bool,
}

pub(super) fn token(token: Token) -> (Kind, Cell) {
    (Kind::Bytes, Cell::Bytes(token.to_vec()))
}

pub(super) async fn of(link: &mut Link) -> Result<Standing, MoveError> {
    let sql = "SELECT id, filling, handing_over, moved_at FROM store";
    let kinds = [Kind::Bytes, Kind::Bytes, Kind::Bytes, Kind::Int];
    let row = link.rows(sql, &[], &kinds).await?.pop();
    let Some(Ok([id, filling, handing_over, moved])) = row.map(<[Cell; 4]>::try_from) else {
        return Err(MoveError::Schema("store".to_owned()));
    };
    let id = id.bytes().try_into();
    Ok(Standing {
        id: StoreId(id.map_err(|_| MoveError::Schema("store".to_owned()))?),
        filling: filling != Cell::Null,
        handing_over: handing_over != Cell::Null,
        moved: moved != Cell::Null,
    })
}

/// Fails where a server must not serve this database: it is not whole yet, or another goes on in its place.
pub async fn may_serve(database: &Database) -> Result<(), MoveError> {
    let mut link = Link::connect(database).await?;
    let standing = of(&mut link).await;
    link.close().await?;
    match standing? {
        Standing { filling: true, .. } => Err(MoveError::NotWhole),
        Standing { moved: true, .. } => Err(MoveError::Moved),
        Standing {
            handing_over: true, ..
        } => Err(MoveError::HandingOver),
        _ => Ok(()),
    }
}

/// Makes an empty store the one that a copy fills, or goes on with one that an earlier copy of the same store began.
pub(super) async fn take(target: &mut Link, source: StoreId, own: Token) -> Result<(), MoveError> {
    let found = of(target).await?;
    match (found.filling, found.id == source) {
        (true, true) => {}
        (true, false) => return Err(MoveError::OtherCopy),
        (false, true) => return Err(MoveError::SameStore),
        (false, false) => {
            for table in tables::all() {
                let sql = format!("SELECT CAST(count(*) AS bigint) FROM {}", table.name);
                if target.number(&sql, &[]).await? > 0 {
                    return Err(MoveError::NotEmpty);
                }
            }
        }
    }
    target.write().await?;
    let id = (Kind::Bytes, Cell::Bytes(source.0.to_vec()));
    target
        .run("UPDATE store SET id = $1, filling = $2", &[id, token(own)])
        .await?;
    target.end().await
}

/// Begins a transaction that writes to the target, unless another copy fills it by now, or it is whole.
pub(super) async fn write(target: &mut Link, own: Token) -> Result<(), MoveError> {
    target.write().await?;
    let lock = if target.is_postgres() { " FOR SHARE" } else { "" };
    let sql = format!("SELECT one FROM store WHERE filling = $1{lock}");
    if target.number(&sql, &[token(own)]).await? == 1 {
        return Ok(());
    }
    target.undo().await;
    Err(MoveError::Overtaken)
}

/// Lets a store take nothing any more, whoever writes, from the answer on; what was acknowledged is in it. Servers that run
/// go on reading. A hand-over that another copy began is gone on with.
pub(super) async fn freeze(source: &mut Link, own: Token) -> Result<(), MoveError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match try_freeze(source, own).await {
            Ok(()) => return Ok(()),
            Err(MoveError::Moved) => return Err(MoveError::Moved),
            Err(error) if attempt == ATTEMPTS => return Err(error),
            Err(error) => {
                source.undo().await;
                tracing::warn!(%error, "the hand-over could not begin; tried again");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn try_freeze(source: &mut Link, own: Token) -> Result<(), MoveError> {
    source.write().await?;
    let sql = "UPDATE store SET handing_over = $1 WHERE moved_at IS NULL";
    if source.run(sql, &[token(own)]).await? == 0 {
        source.undo().await;
        return Err(MoveError::Moved);
    }
    for table in tables::all() {
        let table = table.name;
        if source.is_postgres() {
            let sql = format!(
                "CREATE OR REPLACE TRIGGER handed_over BEFORE INSERT OR UPDATE OR DELETE ON {table}
                 FOR EACH STATEMENT EXECUTE FUNCTION handed_over()"
            );
            source.script(&sql).await?;
            continue;
        }
        for act in ["INSERT", "UPDATE", "DELETE"] {
            let sql = format!(
                "CREATE TRIGGER IF NOT EXISTS handed_over_{table}_{act} BEFORE {act} ON {table} BEGIN
                    SELECT RAISE(ABORT, 'this store is handed over to another and takes nothing');
                 END"
            );
            source.script(&sql).await?;
        }
    }
    source.end().await
}

/// Ends a hand-over that did not come to its end: the store takes records again. `own`: only one that this copy began.
pub(super) async fn thaw(source: &mut Link, own: Option<Token>) -> Result<(), MoveError> {
    source.write().await?;
    let (whose, values) = match own {
        Some(own) => ("= $1", vec![token(own)]),
        None => ("IS NOT NULL", vec![]),
    };
    let sql = format!("UPDATE store SET handing_over = NULL WHERE moved_at IS NULL AND handing_over {whose}");
    let ended = source.run(&sql, &values).await?;
    if ended == 0 {
        source.undo().await;
        return Err(MoveError::NotHandingOver);
    }
    for table in tables::all() {
        let table = table.name;
        if source.is_postgres() {
            source
                .script(&format!("DROP TRIGGER IF EXISTS handed_over ON {table}"))
                .await?;
            continue;
        }
        for act in ["INSERT", "UPDATE", "DELETE"] {
            source
                .script(&format!("DROP TRIGGER IF EXISTS handed_over_{table}_{act}"))
                .await?;
        }
    }
    source.end().await
}

/// Ends the move: first the source is given up, for good, then the target may be served. Whatever ends this between the two
/// leaves no store that takes anything, and the same command goes on.
pub(super) async fn release(
    source: &mut Link,
    target: &mut Link,
    own: Token,
    now: UnixMillis,
) -> Result<(), MoveError> {
    let at = (Kind::Int, Cell::Int(i64::try_from(now.0).unwrap_or(i64::MAX)));
    source.write().await?;
    let sql = "UPDATE store SET moved_at = $1 WHERE handing_over = $2 AND moved_at IS NULL";
    let given_up = source.run(sql, &[at, token(own)]).await?;
    if given_up == 0 && !of(source).await?.moved {
        source.undo().await;
        return Err(MoveError::Overtaken);
    }
    source.end().await?;
    write(target, own).await?;
    target.run("UPDATE store SET filling = NULL", &[]).await?;
    target.end().await
}
