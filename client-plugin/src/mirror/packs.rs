//! Packs in a directory, each under its own hash.

use super::MirrorError;
use crate::durable;
use backstop_protocol::{hash::sha256, id::PackId};
use bytes::Bytes;
use std::{
    fs::{DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt as _, FileExt as _},
    path::{Path, PathBuf},
};

const DIR: &str = "packs";

/// The packs of a mirror.
pub(super) struct Packs(PathBuf);

impl Packs {
    pub(super) fn in_dir(dir: &Path) -> Self {
        Self(dir.join(DIR))
    }

    /// Stores a pack, durably; one that does not have its hash is refused.
    pub(super) fn put(&self, pack: PackId, bytes: &[u8]) -> Result<(), MirrorError> {
        if sha256(bytes) != pack.0 {
            return Err(MirrorError::Wrong(format!("pack {pack}")));
        }
        let path = self.path(pack);
        let written = Self::make_room(&path, bytes.len()).and_then(|()| durable::write(&path, bytes, 0o600));
        written.map_err(|error| MirrorError::io(&path, error))
    }

    /// A part of a pack, or all of it.
    pub(super) fn get(&self, pack: PackId, range: Option<(u32, u32)>) -> Result<Bytes, MirrorError> {
        let path = self.path(pack);
        let read = || -> io::Result<Vec<u8>> {
            match range {
                None => std::fs::read(&path),
                Some((offset, len)) => {
                    let mut bytes = vec![0; len as usize];
                    File::open(&path)?.read_exact_at(&mut bytes, u64::from(offset))?;
                    Ok(bytes)
                }
            }
        };
        read()
            .map(Bytes::from)
            .map_err(|error| MirrorError::io(&path, error))
    }

    /// Removes a pack; one that is gone already is as good.
    pub(super) fn remove(&self, pack: PackId) -> Result<(), MirrorError> {
        let path = self.path(pack);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(MirrorError::io(&path, error)),
            _ => Ok(()),
        }
    }

    fn path(&self, pack: PackId) -> PathBuf {
        let name = pack.to_string();
        let (first, _) = name.split_at_checked(2).unwrap_or((&name, ""));
        self.0.join(first).join(&name)
    }

    fn make_room(path: &Path, bytes: usize) -> io::Result<()> {
        let Some(dir) = path.parent() else { return Ok(()) };
        if !dir.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            durable::sync_parent(dir)?;
            // The one above may be new too.
            if let Some(above) = dir.parent() {
                durable::sync_parent(above)?;
            }
        }
        durable::need_room(dir, u64::try_from(bytes).unwrap_or(u64::MAX))
    }
}
