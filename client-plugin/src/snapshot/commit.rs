//! The body that commits a snapshot (SPEC 6.4), in a file: its lists grow with the database.

use super::{
    index::{Index, Side},
    scratch::{ScratchError, beside},
};
use crate::remote::BodyFile;
use backstop_protocol::id::{ChunkId, SnapshotId};
use std::{
    io::{self, Write},
    path::Path,
};

/// Writes it beside `notes`: the sealed manifest, and the chunks of `index`, as a difference to the parent that `index`
/// was compared with.
pub(super) fn write(
    notes: &Path,
    manifest: &[u8],
    parent: Option<SnapshotId>,
    index: &Index,
) -> Result<BodyFile, ScratchError> {
    BodyFile::write(beside(notes, "commit"), |body| {
        put_count(body, manifest.len() as u64)?;
        body.write_all(manifest)?;
        match parent {
            None => body.write_all(&[0])?,
            Some(parent) => {
                body.write_all(&[1])?;
                body.write_all(&parent.0)?;
            }
        }
        for side in [Side::Added, Side::Removed] {
            put_count(body, index.difference_len(side)?)?;
            index.difference(side, &mut |id: ChunkId| body.write_all(&id.0))?;
        }
        Ok(())
    })
}

fn put_count(to: &mut dyn Write, count: u64) -> io::Result<()> {
    // Above, the file is too long for a snapshot long since.
    to.write_all(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes())
}
