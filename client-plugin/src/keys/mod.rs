//! The root secret and what is derived from it (SPEC 3, I11).
//!
//! No key type here has `Debug`, `Copy`, `Clone` or `Serialize`; each is wiped when dropped.

mod access;
mod bech32m;
pub mod key_file;
pub mod recovery_key;

pub use key_file::KeyFile;
pub use recovery_key::RecoveryKey;

use backstop_protocol::{
    hash::{hkdf_sha256, same},
    session::IdentitySecret,
};
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

key!(
    /// Seals the files beside the database.
    FilesKey
);

impl Root {
    /// Takes the 32 bytes that `makesecret` returned, or a recovery key holds.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Whether both are the same root; in constant time.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        same(&self.0, &other.0)
    }
}

/// Whoever can open sessions: a node with all its keys, or a device that has nothing but an access key.
pub trait Access: Send + Sync {
    /// The key that signs openings.
    fn access(&self) -> &IdentitySecret;
}

impl Access for Keys {
    fn access(&self) -> &IdentitySecret {
        &self.access
    }
}

impl Access for IdentitySecret {
    fn access(&self) -> &IdentitySecret {
        self
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
    /// Seals the files beside the database.
    pub files: FilesKey,
    /// Opens sessions.
    pub access: IdentitySecret,
}

impl Keys {
    /// HKDF-SHA256 of the root, empty salt, with one info string per key: `backstop/v1/record`, `…/chunk`,
    /// `…/chunk-id`, `…/manifest`, `…/files` with 32 bytes each, and `…/access` with 48 bytes that are reduced to a secret key.
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
            files: FilesKey(key(b"backstop/v1/files")),
            access: access::access_key(root),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed by an independent HKDF.
    #[test]
    fn each_key_is_the_hkdf_output_that_spec_names() {
        let keys = Keys::derive(&Root::from_bytes([1; 32]));
        let hex = |bytes: &[u8; 32]| hex::encode(bytes);
        assert_eq!(
            hex(keys.record.expose_bytes()),
            "cfafb0b2d912e4bbc094d730de1d64645fe00234c201d69f72f4321feb3fbfdf"
        );
        assert_eq!(
            hex(keys.chunk.expose_bytes()),
            "910295aabc2a96be4e27a196b4e7957c3b1e5370d27792664c323b845258b4d0"
        );
        assert_eq!(
            hex(keys.chunk_id.expose_bytes()),
            "90b252d113260ada2f5b72f24e4f29696da2a92e881e9e14b054fdf2637263e4"
        );
        assert_eq!(
            hex(keys.manifest.expose_bytes()),
            "0122a24b5c73252a3d397f5c4d87a2ccfbffc2b54ade6a58b71bf8a66455b3f4"
        );
        assert_eq!(
            hex(keys.files.expose_bytes()),
            "1ed50d4af1729712493a68490c04146d5914ba6f697d84518998a3d325b36336"
        );
    }
}
