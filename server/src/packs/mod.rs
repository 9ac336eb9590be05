//! Where packs lie. The database says which chunk is in which pack; the bytes are here.

mod bucket;
#[cfg(test)]
pub(crate) mod conformance;
mod directory;
mod place;

pub use bucket::BucketPacks;
pub use directory::DirectoryPacks;
pub use place::{BadBucketUrl, Bucket, BucketKeys, BucketUrl};

use crate::store::AccountId;
use async_trait::async_trait;
use backstop_protocol::id::PackId;
use bytes::Bytes;
use std::io;

/// Why a pack could not be stored or fetched.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// No room. No pack was changed.
    #[error("no room for the pack")]
    Full,
    /// The asked-for bytes do not lie within the pack.
    #[error("the pack is {0} bytes long")]
    OutOfRange(u64),
    /// Not now: the storage is out of reach, overloaded, or refuses us.
    #[error("the pack store cannot answer now: {0}")]
    Unavailable(String),
    /// The disk failed.
    #[error("the pack store failed")]
    Failed(#[source] io::Error),
}

impl From<io::Error> for PackError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Failed(error),
        }
    }
}

/// A part of a pack, bytes; not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackRange {
    /// Where it starts.
    pub offset: u32,
    /// How long it is.
    pub length: u32,
}

/// A pack as the pack store lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredPack {
    /// Its name.
    pub pack: PackId,
    /// How long it is.
    pub bytes: u64,
}

/// A store of packs by their names. An account's packs are its own.
#[async_trait]
pub trait PackStore: Send + Sync + 'static {
    /// Stores a pack; the caller has checked that `bytes` has the hash in its name. Success means that it is durable
    /// (I1). Again, it changes nothing. A caller that goes away leaves either the whole pack or none.
    async fn put(&self, account: AccountId, pack: PackId, bytes: Bytes) -> Result<(), PackError>;

    /// The whole of a pack, or a part; `None` where there is no such pack.
    async fn get(
        &self,
        account: AccountId,
        pack: PackId,
        range: Option<PackRange>,
    ) -> Result<Option<Bytes>, PackError>;

    /// Removes a pack. One that is not there is no error. The caller sees to it that nobody stores it again meanwhile. A
    /// failure leaves open whether it is gone. Nothing is tried twice in here: a request that was given up could reach the
    /// storage after a pack of this name was stored again, so the caller lets time pass before it asks once more.
    async fn remove(&self, account: AccountId, pack: PackId) -> Result<(), PackError>;

    /// The accounts that something is kept for, in any order.
    async fn accounts(&self) -> Result<Vec<AccountId>, PackError>;

    /// The packs of an account, in any order. What has no pack's name is left out.
    async fn list(&self, account: AccountId) -> Result<Vec<StoredPack>, PackError>;

    /// Proves that packs can be written and read: only then does the absence of one tell something about it.
    async fn probe(&self) -> Result<(), PackError>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_full_disk_is_known_by_what_the_system_says() {
        let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = full.write_all(b"x").unwrap_err();
        assert!(matches!(PackError::from(error), PackError::Full));
        let other = io::Error::from(io::ErrorKind::PermissionDenied);
        assert!(matches!(PackError::from(other), PackError::Failed(_)));
    }
}
