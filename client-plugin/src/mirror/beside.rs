//! The files beside the database, as a mirror keeps them: each version that it saw.

use super::{
    Index, MirrorError,
    index::{int, time},
};
use backstop_protocol::clock::UnixMillis;
use rusqlite::{OptionalExtension as _, params};

impl Index {
    /// The newest sealed files beside the database, and when the server received them.
    pub(super) fn files(&self) -> Result<Option<(UnixMillis, Vec<u8>)>, MirrorError> {
        let found = self.db.query_row(
            "SELECT received_at, sealed FROM files ORDER BY version DESC LIMIT 1",
            [],
            |row| Ok((time(row, 0)?.unwrap_or_default(), row.get(1)?)),
        );
        Ok(found.optional()?)
    }

    /// Stores a newer version of them.
    pub(super) fn add_files(
        &self,
        received_at: UnixMillis,
        sealed: &[u8],
        now: UnixMillis,
    ) -> Result<(), MirrorError> {
        self.db.execute(
            "INSERT INTO files (received_at, stored_at, sealed) VALUES (?, ?, ?)",
            params![int(received_at.0), int(now.0), sealed],
        )?;
        Ok(())
    }
}
