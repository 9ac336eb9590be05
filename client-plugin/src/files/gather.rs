//! Reads the files beside the database, and sees to it that no secret is among them (I11).
//!
//! A name in the list proves nothing: it may be a link to `hsm_secret`, by a path or by a second name, or a copy of it.
//! So three things are judged, and each alone keeps a file out: where the opened file really lies, which file it is, and
//! what its content looks like. `hsm_secret` itself is never read.

use super::{File, FileName, Files};
use crate::{
    cln::{HsmSecret, Mnemonic},
    keys::KeyFile,
};
use backstop_protocol::clock::UnixMillis;
use nix::fcntl::OFlag;
use std::{
    collections::{BTreeSet, HashSet},
    fs::{self, Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};
use zeroize::Zeroize;

/// Longest file that is taken, bytes.
const FILE_MAX: u64 = 1 << 20;
/// Most bytes of all files together: sealed and padded they fit the server's limit.
const TOTAL_MAX: u64 = 3 << 20;

/// What was found on the disk.
#[derive(Debug)]
pub struct Gathered {
    /// What is to be backed up.
    pub files: Files,
    /// What was listed, is there, and does not go with them.
    pub left_out: Vec<(FileName, LeftOut)>,
}

/// Why a file was left out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeftOut {
    /// It is the node's secret, one of Backstop's own files, or looks like a secret.
    #[error("it is, or holds, a secret of the node, and is never uploaded")]
    Secret,
    /// A directory, or something stranger.
    #[error("it is no file")]
    NoFile,
    /// It, or all of them together, would be too long.
    #[error("it is too long: 1 MiB is the most for one, 3 MiB for all")]
    TooLong,
    /// The system refused.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
}

/// Reads the named files of a node; one that is not there is no fault. Blocks.
#[must_use]
pub fn gather(network_dir: &Path, names: &[FileName], now: UnixMillis) -> Gathered {
    let secrets = Secrets::of(network_dir);
    let mut files = Vec::new();
    let mut left_out = Vec::new();
    let mut total = 0;
    // By their names, each once, as they are sealed; the one that matters most comes first to its share of the room.
    let mut sorted: Vec<_> = names.iter().collect::<BTreeSet<_>>().into_iter().collect();
    sorted.sort_by_key(|name| !name.is_emergency());
    for name in sorted {
        match read(&name.path(network_dir), &secrets, TOTAL_MAX - total) {
            Ok(None) => {}
            Ok(Some(bytes)) => {
                total += u64::try_from(bytes.len())
                    .unwrap_or(TOTAL_MAX)
                    .min(TOTAL_MAX - total);
                files.push(File {
                    name: name.clone(),
                    bytes,
                });
            }
            Err(reason) => left_out.push((name.clone(), reason)),
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Gathered {
        files: Files { read_at: now, files },
        left_out,
    }
}

fn read(path: &Path, secrets: &Secrets, room: u64) -> Result<Option<Vec<u8>>, LeftOut> {
    let unreadable = |error: io::Error| LeftOut::Unreadable(error.to_string());
    // Something that is no file must not be waited for.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path);
    let file = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(unreadable)?,
    };
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(LeftOut::NoFile);
    }
    if secrets.are_at(path).map_err(unreadable)? || secrets.are(&metadata) {
        return Err(LeftOut::Secret);
    }
    let most = room.min(FILE_MAX);
    if metadata.len() > most {
        return Err(LeftOut::TooLong);
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if looks_secret(&bytes) {
        bytes.zeroize();
        return Err(LeftOut::Secret);
    }
    if u64::try_from(bytes.len()).is_ok_and(|len| len <= most) {
        Ok(Some(bytes))
    } else {
        Err(LeftOut::TooLong)
    }
}

/// What must not leave the machine, by place and by identity.
struct Secrets {
    /// Device and inode of each, whatever other names it has.
    identities: HashSet<(u64, u64)>,
    /// `backstop/`, where it really lies.
    own: Option<std::path::PathBuf>,
}

impl Secrets {
    fn of(network_dir: &Path) -> Self {
        let own = network_dir.join("backstop");
        let mut paths = vec![network_dir.join("hsm_secret")];
        if let Ok(entries) = fs::read_dir(&own) {
            paths.extend(entries.flatten().map(|entry| entry.path()));
        }
        let identities = paths
            .iter()
            .filter_map(|path| fs::metadata(path).ok())
            .map(|metadata| (metadata.dev(), metadata.ino()));
        Self {
            identities: identities.collect(),
            own: fs::canonicalize(own).ok(),
        }
    }

    /// Whether the path leads to a secret: to a file of that name in any directory, or into `backstop/`.
    fn are_at(&self, path: &Path) -> io::Result<bool> {
        let real = fs::canonicalize(path)?;
        let named = real.file_name().is_some_and(|name| name == "hsm_secret");
        Ok(named || self.own.as_ref().is_some_and(|own| real.starts_with(own)))
    }

    fn are(&self, metadata: &Metadata) -> bool {
        self.identities.contains(&(metadata.dev(), metadata.ino()))
    }
}

/// Whether the content has the form of a secret: `hsm_secret` in any format, its words, or a key file of ours. CLN's
/// recovery file has another length.
fn looks_secret(bytes: &[u8]) -> bool {
    let text = std::str::from_utf8(bytes).ok();
    if KeyFile::is_one(bytes) || text.is_some_and(|text| Mnemonic::parse(text).is_ok()) {
        return true;
    }
    // A secret is told by its length alone, which a short configuration may have too; but that is lines of text.
    let lines = text.is_some_and(|text| {
        text.contains('\n') && text.chars().all(|c| !c.is_control() || c.is_ascii_whitespace())
    });
    HsmSecret::parse(bytes).is_ok() && !lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Root;
    use backstop_protocol::id::{Network, NodeId};
    use std::os::unix::fs::symlink;

    const SECRET: [u8; 32] = [0x5e; 32];

    /// A lightning-dir; the path of its network's directory.
    fn node() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let net = dir.path().join("regtest");
        fs::create_dir_all(net.join("backstop")).unwrap();
        fs::write(net.join("hsm_secret"), SECRET).unwrap();
        let key = KeyFile {
            node: NodeId([2; 33]),
            network: Network::Regtest,
            generation: 1,
            root: Root::from_bytes([9; 32]),
        };
        key.write(&net.join("backstop/key")).unwrap();
        fs::write(net.join("backstop/config.toml"), "version = 1").unwrap();
        (dir, net)
    }

    fn names(names: &[&str]) -> Vec<FileName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn found(net: &Path, listed: &[&str]) -> Gathered {
        gather(net, &names(listed), UnixMillis(5))
    }

    fn left_out(net: &Path, name: &str) -> LeftOut {
        let gathered = found(net, &[name, "config"]);
        assert!(
            gathered
                .files
                .files
                .iter()
                .all(|file| file.name.as_str() == "config")
        );
        let [(left, reason)] = gathered.left_out.as_slice() else {
            panic!("{name}: {gathered:?}")
        };
        assert_eq!(left.as_str(), name);
        reason.clone()
    }

    #[test]
    fn what_is_listed_and_there_is_read_in_the_order_of_names() {
        let (dir, net) = node();
        fs::write(net.join("config"), "alias=x").unwrap();
        fs::write(dir.path().join("config"), "network=regtest").unwrap();
        fs::write(net.join("emergency.recover"), [7; 57]).unwrap();
        let gathered = gather(&net, &FileName::defaults(), UnixMillis(5));
        let read: Vec<_> = gathered
            .files
            .files
            .iter()
            .map(|file| (file.name.as_str(), file.bytes.as_slice()))
            .collect();
        let want: [(&str, &[u8]); 3] = [
            ("../config", b"network=regtest"),
            ("config", b"alias=x"),
            ("emergency.recover", &[7; 57]),
        ];
        assert_eq!(read, want);
        assert_eq!(
            (gathered.files.read_at, gathered.left_out),
            (UnixMillis(5), vec![])
        );
        assert_eq!(found(&net, &["config", "config"]).files.files.len(), 1);
    }

    #[test]
    fn no_link_leads_to_a_secret() {
        let (dir, net) = node();
        symlink(net.join("hsm_secret"), net.join("by-path")).unwrap();
        symlink("by-path", net.join("by-two-paths")).unwrap();
        fs::hard_link(net.join("hsm_secret"), net.join("by-name")).unwrap();
        symlink("backstop/key", net.join("key-by-path")).unwrap();
        fs::hard_link(net.join("backstop/key"), net.join("key-by-name")).unwrap();
        symlink("backstop/config.toml", net.join("own")).unwrap();
        fs::create_dir(dir.path().join("bitcoin")).unwrap();
        fs::write(dir.path().join("bitcoin/hsm_secret"), "of another network").unwrap();
        symlink("bitcoin/hsm_secret", dir.path().join("other")).unwrap();
        for name in [
            "by-path",
            "by-two-paths",
            "by-name",
            "key-by-path",
            "key-by-name",
            "own",
            "../other",
        ] {
            assert_eq!(left_out(&net, name), LeftOut::Secret, "{name}");
        }
        // A link to anything else is followed.
        fs::write(dir.path().join("elsewhere"), "alias=x").unwrap();
        symlink("../elsewhere", net.join("config")).unwrap();
        assert_eq!(found(&net, &["config"]).files.files.len(), 1);
    }

    #[test]
    fn no_copy_of_a_secret_is_taken_under_any_name() {
        let (_dir, net) = node();
        let words =
            "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about";
        let with_passphrase = [&[7; 32], words.as_bytes()].concat();
        let key = fs::read(net.join("backstop/key")).unwrap();
        let copies: [&[u8]; 6] = [
            &SECRET,
            &[8; 73],
            &[&[0; 32], words.as_bytes()].concat(),
            &with_passphrase,
            words.as_bytes(),
            &key,
        ];
        for copy in copies {
            fs::write(net.join("emergency.recover"), copy).unwrap();
            assert_eq!(left_out(&net, "emergency.recover"), LeftOut::Secret);
        }
    }

    #[test]
    fn a_configuration_as_long_as_a_secret_is_none() {
        let (_dir, net) = node();
        for text in [
            "network=regtest\nlog-level=debug\n".to_owned(),
            format!("alias={}\n", "x".repeat(66)),
        ] {
            assert!(matches!(text.len(), 32 | 73));
            fs::write(net.join("config"), &text).unwrap();
            assert_eq!(found(&net, &["config"]).files.files.len(), 1, "{text}");
        }
    }

    #[test]
    fn what_is_no_file_or_too_long_is_left_out_and_waited_for_by_nobody() {
        let (_dir, net) = node();
        fs::create_dir(net.join("directory")).unwrap();
        assert_eq!(left_out(&net, "directory"), LeftOut::NoFile);
        nix::unistd::mkfifo(&net.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(left_out(&net, "pipe"), LeftOut::NoFile);
        fs::write(net.join("long"), vec![1; (1 << 20) + 1]).unwrap();
        assert_eq!(left_out(&net, "long"), LeftOut::TooLong);
    }

    #[test]
    fn the_recovery_file_has_room_before_all_others() {
        let (_dir, net) = node();
        for name in ["a", "b", "c", "emergency.recover"] {
            fs::write(net.join(name), vec![1; 1 << 20]).unwrap();
        }
        let gathered = found(&net, &["a", "b", "c", "emergency.recover"]);
        assert_eq!(gathered.left_out, [("c".parse().unwrap(), LeftOut::TooLong)]);
        assert!(gathered.files.emergency().is_some());
    }
}
