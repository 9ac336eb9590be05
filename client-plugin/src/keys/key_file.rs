//! `backstop/key` in the network's directory: what lets the plugin work without `hsm_secret` (I11).

use super::{RecoveryKey, Root, recovery_key::BadRecoveryKey};
use crate::durable;
use backstop_protocol::id::{Network, NodeId};
use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// The first line; the number is the version of the format.
const FIRST_LINE: &str = "backstop-key-file 1";
const WARNING: &str = "# Reads and writes this node's backups; it can spend nothing. Keep it secret. Written by backstop setup.";
/// Only its owner reads it, and nobody writes to it.
const MODE: u32 = 0o400;
/// Longest file that is read, bytes.
const LEN_MAX: u64 = 4096;

/// The content of the key file.
pub struct KeyFile {
    /// The node whose backups the root opens.
    pub node: NodeId,
    /// Its network.
    pub network: Network,
    /// Which of the node's roots this is, counted from 1; raised to get new keys.
    pub generation: u32,
    /// The root.
    pub root: Root,
}

/// Why the key file cannot be used. Each message ends with what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// There is none.
    #[error("{path} does not exist: run `backstop setup` for this node")]
    Missing {
        /// The key file.
        path: PathBuf,
    },
    /// It, or its directory, could not be read or written.
    #[error("{path} cannot be {verb}: {reason}. Run as the user that runs lightningd")]
    Io {
        /// The key file.
        path: PathBuf,
        /// "read" or "written".
        verb: &'static str,
        /// What the system said.
        reason: io::Error,
    },
    /// Others than its owner may use it.
    #[error("{path} can be used by others than its owner (mode {mode:04o}): run `chmod 0400 {path}`")]
    Mode {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another user than the present one owns it.
    #[error(
        "{path} belongs to user {owner}, not to user {user} who runs this: run as that user, or change its owner"
    )]
    Owner {
        /// The key file.
        path: PathBuf,
        /// Numeric id of its owner.
        owner: u32,
        /// Numeric id of the present user.
        user: u32,
    },
    /// It is not what `setup` wrote.
    #[error("{path} is damaged ({reason}): move it away and run `backstop setup` again")]
    Damaged {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it; never any of its content.
        reason: String,
    },
}

impl KeyFile {
    /// Writes the file so that it lasts, readable by its owner alone.
    pub fn write(&self, path: &Path) -> Result<(), KeyFileError> {
        durable::write(path, self.to_text().as_bytes(), MODE).map_err(|reason| KeyFileError::Io {
            path: path.to_owned(),
            verb: "written",
            reason,
        })
    }

    /// Reads the file, after checking that nobody but its owner, who is the present user (or root is), may use it.
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let io = |reason: io::Error| match reason.kind() {
            io::ErrorKind::NotFound => KeyFileError::Missing {
                path: path.to_owned(),
            },
            _ => KeyFileError::Io {
                path: path.to_owned(),
                verb: "read",
                reason,
            },
        };
        // The opened file is judged, not the name, which may mean another file a moment later.
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Mode {
                path: path.to_owned(),
                mode,
            });
        }
        let user = nix::unistd::geteuid();
        if metadata.uid() != user.as_raw() && !user.is_root() {
            return Err(KeyFileError::Owner {
                path: path.to_owned(),
                owner: metadata.uid(),
                user: user.as_raw(),
            });
        }
        let mut text = Zeroizing::new(String::with_capacity(1024));
        file.take(LEN_MAX).read_to_string(&mut text).map_err(io)?;
        Self::parse(&text).map_err(|reason| KeyFileError::Damaged {
            path: path.to_owned(),
            reason,
        })
    }

    /// Whether these bytes are the beginning of such a file, whole or damaged.
    #[must_use]
    pub fn is_one(bytes: &[u8]) -> bool {
        let word = FIRST_LINE.split(' ').next().unwrap_or(FIRST_LINE);
        bytes.trim_ascii_start().starts_with(word.as_bytes())
    }

    fn to_text(&self) -> Zeroizing<String> {
        let Self {
            node,
            network,
            generation,
            root,
        } = self;
        let key = RecoveryKey::to_text(*network, root);
        // The full length at once: a string that grows leaves copies of itself behind.
        let mut text = Zeroizing::new(String::with_capacity(1024));
        for part in [
            FIRST_LINE,
            "\n",
            WARNING,
            "\nnode ",
            &node.to_string(),
            "\nnetwork ",
            network.as_str(),
            "\ngeneration ",
            &generation.to_string(),
            "\nkey ",
            &key,
            "\n",
        ] {
            text.push_str(part);
        }
        text
    }

    /// The error is the reason alone.
    fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        if lines.next() != Some(FIRST_LINE) {
            return Err(format!("its first line is not `{FIRST_LINE}`"));
        }
        let mut lines = lines.filter(|line| !line.starts_with('#'));
        let mut field = |name: &str| {
            let line = lines
                .next()
                .and_then(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.ok_or_else(|| format!("no line `{name}` where it belongs"))
        };
        let node = field("node")?.parse().map_err(|_| "bad node id")?;
        let network: Network = field("network")?.parse().map_err(|_| "unknown network")?;
        let generation = field("generation")?.parse().map_err(|_| "bad generation")?;
        let key = RecoveryKey::parse(field("key")?).map_err(|error: BadRecoveryKey| error.to_string())?;
        if key.network != network {
            return Err("its key is for another network".to_owned());
        }
        match lines.next() {
            None => Ok(Self {
                node,
                network,
                generation,
                root: key.root,
            }),
            Some(_) => Err("more lines than expected".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    fn key_file() -> KeyFile {
        KeyFile {
            node: NodeId([2; 33]),
            network: Network::Regtest,
            generation: 7,
            root: Root::from_bytes([9; 32]),
        }
    }

    fn written() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        key_file().write(&path).unwrap();
        (dir, path)
    }

    fn error(path: &Path) -> KeyFileError {
        KeyFile::read(path).err().unwrap()
    }

    #[test]
    fn a_key_file_is_read_as_it_was_written_and_only_its_owner_may() {
        let (_dir, path) = written();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o400
        );
        let read = KeyFile::read(&path).ok().unwrap();
        assert_eq!(
            (read.node, read.network, read.generation),
            (NodeId([2; 33]), Network::Regtest, 7)
        );
        assert!(read.root.is(&key_file().root));
    }

    #[test]
    fn a_key_file_that_others_may_use_is_refused() {
        let (_dir, path) = written();
        for mode in [0o440, 0o404, 0o420, 0o410, 0o666] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = error(&path);
            assert!(matches!(error, KeyFileError::Mode { mode: found, .. } if found == mode));
            assert!(error.to_string().contains("chmod 0400"));
        }
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(KeyFile::read(&path).is_ok());
    }

    #[test]
    fn a_missing_key_file_says_to_run_setup() {
        let dir = tempfile::tempdir().unwrap();
        let error = error(&dir.path().join("key"));
        assert!(matches!(error, KeyFileError::Missing { .. }));
        assert!(error.to_string().contains("backstop setup"));
    }

    #[test]
    fn a_damaged_key_file_says_so_without_its_content() {
        let text = key_file().to_text();
        for damaged in [
            text.replacen("file 1", "file 2", 1),
            text.replacen("node 02", "node 0g", 1),
            text.replacen("network regtest", "network bitcoin", 1),
            text.replacen("generation 7", "generation -7", 1),
            text.replacen("key backstop1 pyp", "key backstop1 pyq", 1),
            text.replacen("\nkey ", "\nroot ", 1),
            format!("{}more\n", *text),
            String::new(),
        ] {
            assert_ne!(damaged, *text);
            let reason = KeyFile::parse(&damaged).err().unwrap();
            assert!(
                !reason.contains("0202") && !reason.contains("backstop1 p"),
                "{reason}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,200}", lines in proptest::collection::vec("(node|network|generation|key|#) ?.{0,80}", 0..6)) {
            let _ = KeyFile::parse(&text);
            let _ = KeyFile::parse(&format!("{FIRST_LINE}\n{}", lines.join("\n")));
        }
    }
}
