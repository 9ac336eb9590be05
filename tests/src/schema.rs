//! A node's tables, small, with the habits of CLN's that matter to a backup, and the peculiar first start.

use anyhow::Result;
use rusqlite::Connection;

use crate::{
    sql,
    statement::{Statement, Value},
};

/// One call of the hook to come.
#[derive(Clone, Debug)]
pub enum Batch {
    /// Statements of one transaction, without the version's.
    Transaction(Vec<Statement>),
    /// One PRAGMA, executed and reported outside any transaction, at an unchanged version.
    Outside(&'static str),
    /// `VACUUM`, which no hook sees.
    Unreported,
}

const TABLES: &[&str] = &[
    "CREATE TABLE version (version INTEGER)",
    "CREATE TABLE vars (name TEXT PRIMARY KEY, val TEXT, intval INTEGER, blobval BLOB);",
    "CREATE TABLE peers (id INTEGER PRIMARY KEY, node_id BLOB UNIQUE, address TEXT);",
    "CREATE TABLE shachains (id INTEGER PRIMARY KEY, min_index INTEGER, num_valid INTEGER);",
    "CREATE TABLE shachain_known (shachain_id INTEGER REFERENCES shachains(id) ON DELETE CASCADE, pos INTEGER, \
     idx INTEGER, hash BLOB, PRIMARY KEY (shachain_id, pos));",
    "CREATE TABLE channels (id INTEGER PRIMARY KEY, peer_id INTEGER REFERENCES peers(id) ON DELETE CASCADE, \
     state INTEGER, scid INTEGER, next_index_local INTEGER, next_index_remote INTEGER, msatoshi_local INTEGER, \
     max_in_flight INTEGER, feerate INTEGER, funding_key_remote BLOB, per_commit_remote BLOB, old_per_commit_remote \
     BLOB, last_tx BLOB, last_sig BLOB, last_sent_commit BLOB, shutdown_script BLOB, features BLOB, alias TEXT);",
    "CREATE TABLE channel_htlcs (id INTEGER PRIMARY KEY, channel_id INTEGER REFERENCES channels(id) ON DELETE CASCADE, \
     channel_htlc_id INTEGER, direction INTEGER, msatoshi INTEGER, cltv_expiry INTEGER, payment_hash BLOB, \
     payment_key BLOB, routing_onion BLOB, hstate INTEGER, UNIQUE (channel_id, channel_htlc_id, direction));",
    "CREATE TABLE htlc_sigs (channel_id INTEGER REFERENCES channels(id) ON DELETE CASCADE, signature BLOB);",
    "CREATE TABLE channel_feerates (channel_id INTEGER REFERENCES channels(id) ON DELETE CASCADE, hstate INTEGER, \
     feerate_per_kw INTEGER, UNIQUE (channel_id, hstate));",
    "CREATE TABLE penalty_bases (channel_id INTEGER REFERENCES channels(id) ON DELETE CASCADE, commitnum INTEGER, \
     txid BLOB, outnum INTEGER, amount INTEGER, PRIMARY KEY (channel_id, commitnum));",
    "CREATE TABLE local_anchors (channel_id INTEGER REFERENCES channels(id) ON DELETE CASCADE, \
     commitment_index INTEGER, txid BLOB, outnum INTEGER, fee INTEGER);",
    "CREATE TABLE invoices (id INTEGER PRIMARY KEY, state INTEGER, msatoshi INTEGER, payment_hash BLOB UNIQUE, \
     payment_key BLOB, label TEXT UNIQUE, description TEXT, pay_index INTEGER UNIQUE);",
    "CREATE TABLE payments (id INTEGER PRIMARY KEY, timestamp INTEGER, status INTEGER, payment_hash BLOB, \
     msatoshi INTEGER, scids TEXT, UNIQUE (payment_hash));",
    "CREATE TABLE outputs (txid BLOB, outnum INTEGER, value INTEGER, status INTEGER, script BLOB, \
     PRIMARY KEY (txid, outnum));",
    "CREATE TABLE blocks (height INTEGER PRIMARY KEY, hash BLOB, prev_hash BLOB);",
    "CREATE TABLE datastore (key BLOB, data BLOB, generation INTEGER, PRIMARY KEY (key));",
    // No INTEGER PRIMARY KEY: its rowids are shown to users, and a VACUUM may change them.
    "CREATE TABLE forwards (in_channel INTEGER, in_htlc INTEGER, out_channel INTEGER, in_msatoshi INTEGER, \
     out_msatoshi INTEGER, state INTEGER, PRIMARY KEY (in_channel, in_htlc));",
    "CREATE TABLE channel_moves (id INTEGER PRIMARY KEY, channel_id INTEGER, credit INTEGER, tag INTEGER, \
     payment_hash BLOB, group_id INTEGER);",
    "CREATE TABLE db_upgrades (upgrade_from INTEGER, lightning_version TEXT);",
];

/// Counters that live in `vars`.
pub const COUNTERS: &[&str] = &[
    "last_sendpays_created_index",
    "last_htlcs_created_index",
    "last_invoices_created_index",
    "last_pay_index",
    "last_forwards_created_index",
    "last_channelmoves_created_index",
    "last_channel_dbid",
    "last_processed_block",
];

/// The very first start: versions 1, 1, 2, 2, 3, then 4 and 5.
#[must_use]
pub fn first_start(node_id: &[u8; 33]) -> Vec<Batch> {
    let mut create: Vec<Statement> = TABLES.iter().map(|table| sql!(*table)).collect();
    create.push(sql!("INSERT INTO version VALUES (1)"));
    create.push(sql!(
        "INSERT INTO vars (name, intval) VALUES ('data_version', 0);"
    ));
    for name in COUNTERS {
        create.push(sql!("INSERT INTO vars (name, intval) VALUES (?, 0);", *name));
    }
    let mut batches = vec![Batch::Transaction(create)];
    batches.extend(rebuild(
        "payments",
        "group_id INTEGER, description TEXT, path_secrets BLOB",
    ));
    batches.push(Batch::Transaction(vec![
        sql!("ALTER TABLE payments ADD completed_at INTEGER DEFAULT NULL;"),
        sql!("ALTER TABLE channel_htlcs ADD updated_index INTEGER DEFAULT 0;"),
        sql!("CREATE INDEX channel_htlcs_updated ON channel_htlcs (updated_index)"),
        sql!("CREATE INDEX forwards_state ON forwards (state);"),
        sql!("INSERT INTO db_upgrades VALUES (?, ?);", 0_i64, "v26.06.6"),
        sql!("UPDATE version SET version=?;", 282_i64),
    ]));
    batches.push(Batch::Unreported);
    batches.push(Batch::Transaction(vec![
        sql!(
            "INSERT INTO vars (name, blobval) VALUES ('genesis_hash', ?);",
            vec![0x06; 32]
        ),
        sql!(
            "INSERT INTO vars (name, blobval) VALUES ('node_id', ?);",
            node_id.to_vec()
        ),
    ]));
    batches.push(Batch::Transaction(vec![sql!(
        "UPDATE vars SET intval=? WHERE name=?",
        91_i64,
        "last_processed_block"
    )]));
    batches
}

/// What is left of the very first start, where a crash cut it off: nothing where it was completed.
pub fn rest_of_first_start(node_id: &[u8; 33], connection: &Connection) -> Result<Vec<Batch>> {
    let holds = |sql: &str| {
        connection
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .map(|count| count > 0)
    };
    let steps = [
        ("SELECT count(*) FROM sqlite_master WHERE name = 'vars'", 1),
        (
            "SELECT count(*) FROM pragma_table_info('payments') WHERE name = 'group_id'",
            3,
        ),
        ("SELECT count(*) FROM db_upgrades", 2),
        ("SELECT count(*) FROM vars WHERE name = 'node_id'", 2),
    ];
    let mut done = 0;
    for (sql, batches) in steps {
        if !holds(sql)? {
            return Ok(first_start(node_id).split_off(done));
        }
        done += batches;
    }
    Ok(Vec::new())
}

/// Every later start: the version is written even where nothing changes.
#[must_use]
pub fn later_start() -> Vec<Batch> {
    vec![
        Batch::Transaction(vec![sql!("UPDATE version SET version=282;")]),
        Batch::Transaction(vec![sql!(
            "UPDATE vars SET intval=? WHERE name=?",
            0_i64,
            "last_processed_block"
        )]),
        Batch::Transaction(vec![sql!(
            "DELETE FROM channel_htlcs WHERE hstate = ? AND channel_id NOT IN (SELECT id FROM channels)",
            9_i64
        )]),
    ]
}

/// A start with a newer lightningd, which migrates: a commit, PRAGMAs around a rebuilt table, a VACUUM.
#[must_use]
pub fn upgrading_start(step: u64) -> Vec<Batch> {
    let mut batches = vec![Batch::Transaction(vec![
        sql!(format!(
            "ALTER TABLE invoices ADD upgrade_{step} INTEGER DEFAULT NULL;"
        )),
        sql!("UPDATE invoices SET state = state"),
    ])];
    batches.extend(rebuild("outputs", &format!("spend_height_{step} INTEGER")));
    batches.push(Batch::Transaction(vec![
        sql!("INSERT INTO db_upgrades VALUES (?, ?);", 282 + step, "v26.09"),
        sql!("UPDATE version SET version=?;", 283 + step),
    ]));
    batches.push(Batch::Unreported);
    batches
}

/// How migrations change a column: with foreign keys off, into a new table and back under the old name.
fn rebuild(table: &str, more_columns: &str) -> [Batch; 3] {
    let (columns, rest) = match table {
        "payments" => (
            "id INTEGER PRIMARY KEY, timestamp INTEGER, status INTEGER, payment_hash BLOB, msatoshi INTEGER, scids TEXT",
            "id, timestamp, status, payment_hash, msatoshi, scids",
        ),
        _ => (
            "txid BLOB, outnum INTEGER, value INTEGER, status INTEGER, script BLOB",
            "txid, outnum, value, status, script",
        ),
    };
    [
        Batch::Outside("PRAGMA foreign_keys = OFF;"),
        Batch::Transaction(vec![
            sql!(format!("ALTER TABLE {table} RENAME TO temp_{table};")),
            sql!(format!("CREATE TABLE {table} ({columns}, {more_columns})")),
            sql!(format!(
                "INSERT INTO {table} ({rest}) SELECT {rest} FROM temp_{table} ORDER BY rowid"
            )),
            sql!(format!("DROP TABLE temp_{table};")),
        ]),
        Batch::Outside("PRAGMA foreign_keys = ON;"),
    ]
}

/// What another plugin writes at any time.
#[must_use]
pub fn datastore_write(random: Vec<u8>) -> Vec<Statement> {
    let key = b"askrene\0layers".to_vec();
    vec![
        sql!("DELETE FROM datastore WHERE key = ?", key.clone()),
        sql!(
            "INSERT INTO datastore VALUES (?, ?, ?)",
            key,
            random,
            Value::Int(0)
        ),
    ]
}
