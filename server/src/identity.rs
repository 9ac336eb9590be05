//! The server's identity key, which clients pin at `setup`.

use crate::durable;
use backstop_protocol::session::IdentitySecret;
use rand_core::CryptoRng;
use std::{
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// The file's name in the data directory.
const FILE: &str = "identity.key";

/// Why there is no identity to start with. The key itself is in no message.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It cannot be read or written.
    #[error("cannot {action} {}: {cause}", .file.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The key file.
        file: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Others than its owner may read or write it.
    #[error("{} may be used by others (mode {mode:04o}); run: chmod 0400 {}", .file.display(), .file.display())]
    Exposed {
        /// The key file.
        file: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// There is none.
    #[error("there is no {}; say with --data DIR where the server keeps its data", .file.display())]
    Missing {
        /// The key file.
        file: PathBuf,
    },
    /// There is another.
    #[error("{} is another server's key; choose an empty directory", .file.display())]
    Other {
        /// The key file.
        file: PathBuf,
    },
    /// It holds no key.
    #[error("{} does not hold a key (64 hex digits); put the original back, because every client pinned it", .file.display())]
    NoKey {
        /// The key file.
        file: PathBuf,
    },
}

/// Reads the key of the data directory `dir`, or makes one where there is none: 64 hex digits and a line end, mode 0400.
pub(crate) fn load_or_create(dir: &Path, rng: &mut dyn CryptoRng) -> Result<IdentitySecret, IdentityError> {
    if let Some(found) = find(dir)? {
        return Ok(found);
    }
    let secret = generate(rng);
    keep(dir, &secret)?;
    Ok(secret)
}

/// Reads the key of the data directory of a server that was started before.
pub(crate) fn load(dir: &Path) -> Result<IdentitySecret, IdentityError> {
    let file = dir.join(FILE);
    find(dir)?.ok_or(IdentityError::Missing { file })
}

/// Gives a data directory that has no key this one.
pub(crate) fn give(dir: &Path, secret: &IdentitySecret) -> Result<(), IdentityError> {
    match find(dir)? {
        None => keep(dir, secret),
        Some(found) if found.server_key() == secret.server_key() => Ok(()),
        Some(_) => Err(IdentityError::Other { file: dir.join(FILE) }),
    }
}

fn failed(file: &Path, action: &'static str) -> impl FnOnce(io::Error) -> IdentityError {
    let file = file.to_owned();
    move |cause| IdentityError::Io { action, file, cause }
}

fn find(dir: &Path) -> Result<Option<IdentitySecret>, IdentityError> {
    let file = dir.join(FILE);
    match std::fs::metadata(&file) {
        Ok(found) => {
            let mode = found.permissions().mode() & 0o7777;
            if mode & 0o077 != 0 {
                return Err(IdentityError::Exposed { file, mode });
            }
            let text = Zeroizing::new(std::fs::read(&file).map_err(failed(&file, "read"))?);
            parse(&text).map(Some).ok_or(IdentityError::NoKey { file })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(failed(&file, "look at")(cause)),
    }
}

fn keep(dir: &Path, secret: &IdentitySecret) -> Result<(), IdentityError> {
    let file = dir.join(FILE);
    let mut text = Zeroizing::new(hex::encode(secret.expose_bytes()));
    text.push('\n');
    // A crash can have left one behind, with a key that nobody was told.
    let temporary = dir.join(format!("{FILE}.new"));
    match std::fs::remove_file(&temporary) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            return Err(failed(&file, "remove the temporary of")(cause));
        }
        _ => {}
    }
    durable::write(&temporary, &file, text.as_bytes(), 0o400).map_err(failed(&file, "write"))
}

fn generate(rng: &mut dyn CryptoRng) -> IdentitySecret {
    loop {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *bytes);
        // One in 2^128 is no key.
        if let Ok(secret) = IdentitySecret::from_bytes(&bytes) {
            return secret;
        }
    }
}

fn parse(text: &[u8]) -> Option<IdentitySecret> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text, &mut *bytes).ok()?;
    IdentitySecret::from_bytes(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use getrandom::{SysRng, rand_core::UnwrapErr};
    use std::fs::Permissions;

    #[test]
    fn an_identity_is_made_once_and_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let first = load_or_create(dir.path(), &mut UnwrapErr(SysRng)).unwrap();
        let again = load_or_create(dir.path(), &mut UnwrapErr(SysRng)).unwrap();
        assert_eq!(first.server_key(), again.server_key());
        let mode = std::fs::metadata(dir.path().join(FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o400);
    }

    #[test]
    fn an_identity_that_others_may_use_is_refused_with_the_command_that_helps() {
        let dir = tempfile::tempdir().unwrap();
        load_or_create(dir.path(), &mut UnwrapErr(SysRng)).unwrap();
        std::fs::set_permissions(dir.path().join(FILE), Permissions::from_mode(0o440)).unwrap();
        let refused = load_or_create(dir.path(), &mut UnwrapErr(SysRng));
        let Err(error @ IdentityError::Exposed { .. }) = refused else {
            panic!("an exposed key was taken");
        };
        assert!(error.to_string().contains("chmod 0400"));
    }

    #[test]
    fn a_damaged_identity_is_never_replaced_by_a_new_one() {
        for damaged in [
            "",
            "00",
            "zz",
            &"0".repeat(64),
            &"f".repeat(64),
            &format!("{}00", "1".repeat(64)),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join(FILE);
            std::fs::write(&file, damaged).unwrap();
            std::fs::set_permissions(&file, Permissions::from_mode(0o400)).unwrap();
            let refused = load_or_create(dir.path(), &mut UnwrapErr(SysRng));
            assert!(matches!(refused, Err(IdentityError::NoKey { .. })), "{damaged:?}");
            assert_eq!(std::fs::read_to_string(&file).unwrap(), damaged);
        }
    }
}
