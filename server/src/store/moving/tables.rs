//! Which tables a store consists of, and by what their rows are told apart.

/// Which rows of a table are looked at together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// All of them.
    Whole,
    /// Those of one account.
    Account,
    /// Those of one snapshot.
    Snapshot,
}

impl Scope {
    /// The column that names what the rows belong to.
    pub(super) fn column(self) -> Option<&'static str> {
        match self {
            Self::Whole => None,
            Self::Account => Some("account"),
            Self::Snapshot => Some("snapshot"),
        }
    }
}

/// A column of many bytes, which is read for the rows that need it alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heavy {
    pub(super) column: &'static str,
    /// Names one row within the scope.
    pub(super) by: &'static str,
    /// Whether the column `hash` is its SHA-256.
    pub(super) hashed: bool,
}

/// A table that travels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) scope: Scope,
    /// What tells the rows of a scope apart and orders them, alike in every database.
    pub(super) key: &'static [&'static str],
    /// The columns of a constraint that says so.
    pub(super) unique: &'static [&'static str],
    /// The number by which other tables name a row, where it is not the key.
    pub(super) number: Option<&'static str>,
    pub(super) heavy: Option<Heavy>,
    /// Removes the row of a number and all that rests on it.
    pub(super) removes: &'static [&'static str],
}

const PLAIN: Table = Table {
    name: "",
    scope: Scope::Whole,
    key: &[],
    unique: &[],
    number: None,
    heavy: None,
    removes: &[],
};

const fn heavy(column: &'static str, by: &'static str, hashed: bool) -> Heavy {
    Heavy { column, by, hashed }
}

pub(super) const ACCOUNTS: Table = Table {
    name: "accounts",
    key: &["account"],
    unique: &["account"],
    ..PLAIN
};

/// What belongs to no account, or is found by another key than the account's.
pub(super) const COMMON: &[Table] = &[
    Table {
        name: "invites",
        key: &["id"],
        unique: &["id"],
        ..PLAIN
    },
    Table {
        name: "allowed_nodes",
        key: &["node", "network"],
        unique: &["node", "network"],
        ..PLAIN
    },
    Table {
        name: "alarms",
        key: &["alarm"],
        unique: &["alarm"],
        ..PLAIN
    },
    Table {
        name: "grants",
        key: &["access_key", "account", "serial", "text"],
        unique: &["access_key", "account", "serial", "text"],
        ..PLAIN
    },
];

pub(super) const RECORDS: Table = Table {
    name: "records",
    scope: Scope::Account,
    key: &["seq"],
    unique: &["account", "seq"],
    heavy: Some(heavy("sealed", "seq", true)),
    ..PLAIN
};
pub(super) const REPLACED: Table = Table {
    name: "replaced_records",
    scope: Scope::Account,
    key: &["seq", "place"],
    unique: &["place"],
    heavy: Some(heavy("sealed", "place", true)),
    ..PLAIN
};
pub(super) const PACKS: Table = Table {
    name: "packs",
    scope: Scope::Account,
    key: &["id"],
    unique: &["account", "id"],
    number: Some("pack"),
    removes: &[
        "DELETE FROM snapshot_chunks WHERE chunk IN (SELECT chunk FROM chunks WHERE pack = $1)",
        "DELETE FROM chunks WHERE pack = $1",
        "DELETE FROM packs WHERE pack = $1",
    ],
    ..PLAIN
};
pub(super) const CHUNKS: Table = Table {
    name: "chunks",
    scope: Scope::Account,
    key: &["id"],
    unique: &["account", "id"],
    number: Some("chunk"),
    removes: &[
        "DELETE FROM snapshot_chunks WHERE chunk = $1",
        "DELETE FROM chunks WHERE chunk = $1",
    ],
    ..PLAIN
};
pub(super) const SNAPSHOTS: Table = Table {
    name: "snapshots",
    scope: Scope::Account,
    key: &["id"],
    unique: &["account", "id"],
    number: Some("snapshot"),
    heavy: Some(heavy("manifest", "id", false)),
    removes: &[
        "DELETE FROM snapshot_chunks WHERE snapshot = $1",
        "DELETE FROM snapshots WHERE snapshot = $1",
    ],
};
pub(super) const SNAPSHOT_CHUNKS: Table = Table {
    name: "snapshot_chunks",
    scope: Scope::Snapshot,
    key: &["chunk"],
    unique: &["snapshot", "chunk"],
    ..PLAIN
};
pub(super) const FILES: Table = Table {
    name: "files",
    scope: Scope::Account,
    key: &["version"],
    unique: &["version"],
    heavy: Some(heavy("sealed", "version", false)),
    ..PLAIN
};

/// What an account consists of beside its row, in an order in which nothing is entered before what it rests on.
pub(super) const OF_AN_ACCOUNT: &[Table] = &[
    RECORDS,
    REPLACED,
    PACKS,
    CHUNKS,
    SNAPSHOTS,
    SNAPSHOT_CHUNKS,
    FILES,
];

/// Every table but `store`, whose one row says which store this is and what becomes of it.
pub(super) fn all() -> impl Iterator<Item = Table> {
    [ACCOUNTS]
        .into_iter()
        .chain(COMMON.iter().copied())
        .chain(OF_AN_ACCOUNT.iter().copied())
}

/// What one database alone has: the order in which records arrived, which no reader asks for.
pub(super) const NOT_COPIED: (&str, &str) = ("records", "place");

/// Removes all of an account, after its packs.
pub(super) const REMOVES_ACCOUNT: &[&str] = &[
    "DELETE FROM snapshot_chunks WHERE snapshot IN (SELECT snapshot FROM snapshots WHERE account = $1)",
    "DELETE FROM snapshots WHERE account = $1",
    "DELETE FROM chunks WHERE account = $1",
    "DELETE FROM packs WHERE account = $1",
    "DELETE FROM files WHERE account = $1",
    "DELETE FROM replaced_records WHERE account = $1",
    "DELETE FROM records WHERE account = $1",
    "DELETE FROM grants WHERE account = $1",
    "DELETE FROM accounts WHERE account = $1",
];
