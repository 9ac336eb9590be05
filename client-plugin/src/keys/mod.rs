//! The root secret and what is derived from it (SPEC 3, I11).
//!
//! No key type here has `Debug`, `Copy`, `Clone` or `Serialize`; each is wiped when dropped.

use backstop_protocol::{hash::hkdf_sha256, session::IdentitySecret};
use zeroize::{Zeroize, ZeroizeOnDrop};

macro_rules! key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Zeroize, ZeroizeOnDrop)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The key's bytes, to be given to a primitive and nowhere else.
            #[must_use]
            pub fn expose_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }
    };
}

key!(
    /// What everything else comes from: CLN's `makesecret` of a fixed string. It can read backups and write new
    /// ones; it can spend nothing.
    Root
);
key!(
    /// Seals records.
    RecordKey
);
key!(
    /// Seals chunks.
    ChunkKey
);
key!(
    /// Names chunks by their content.
    ChunkIdKey
);
key!(
    /// Seals manifests.
    ManifestKey
);

impl Root {
    /// Takes the 32 bytes that `makesecret` returned, or a recovery key holds.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// All keys of one node on one network.
pub struct Keys {
    /// Seals records.
    pub record: RecordKey,
    /// Seals chunks.
    pub chunk: ChunkKey,
    /// Names chunks.
    pub chunk_id: ChunkIdKey,
    /// Seals manifests.
    pub manifest: ManifestKey,
    /// Opens sessions.
    pub access: IdentitySecret,
}

impl Keys {
    /// HKDF-SHA256 of the root with one info string per key. The access key is a 48-byte output reduced to a number
    /// from 1 to the order of the curve less one: the high half of each key space is equally likely, zero never.
    #[must_use]
    pub fn derive(root: &Root) -> Self {
        let key = |info: &[u8]| {
            let mut bytes = [0; 32];
            hkdf_sha256(b"", &root.0, info, &mut bytes);
            bytes
        };
        Self {
            record: RecordKey(key(b"backstop/v1/record")),
            chunk: ChunkKey(key(b"backstop/v1/chunk")),
            chunk_id: ChunkIdKey(key(b"backstop/v1/chunk-id")),
            manifest: ManifestKey(key(b"backstop/v1/manifest")),
            access: access_key(root),
        }
    }
}

/// See [`Keys::derive`].
fn access_key(_root: &Root) -> IdentitySecret {
    todo!("keys helper")
}
