//! Who may read the node's secrets, and whether the disk has room.

use super::finding::Finding;
use crate::{
    cln::{NodeDir, locate::Wallet},
    directory::Directory,
};
use nix::sys::statvfs::statvfs;
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Below this lightningd itself is about to fail, bytes.
const LEAST: u64 = 64 << 20;

/// Whether nobody but its owner reads what holds a secret (I11), and the same user owns all of it.
pub(super) fn modes(files: &NodeDir) -> Finding {
    let check = "modes";
    let directory = Directory::in_network_dir(&files.net());
    let secrets = [
        files.hsm_secret(),
        directory.path().to_owned(),
        directory.key_path(),
    ];
    let there: Vec<(PathBuf, fs::Metadata)> = secrets
        .into_iter()
        .filter_map(|path| fs::metadata(&path).ok().map(|metadata| (path, metadata)))
        .collect();
    if let Some((path, metadata)) = there.iter().find(|(_, metadata)| metadata.mode() & 0o077 != 0) {
        let path = path.display();
        return Finding::wrong(
            check,
            format!(
                "{path} has mode {:o}: others on this machine may use it, and whoever has hsm_secret has the funds. Type: chmod \
                 go= {path}",
                metadata.mode() & 0o7777
            ),
        );
    }
    let owners = |(path, metadata): &(PathBuf, fs::Metadata)| (path.display().to_string(), metadata.uid());
    let mut owners = there.iter().map(owners);
    if let Some((first, owner)) = owners.next()
        && let Some((other, uid)) = owners.find(|(_, uid)| *uid != owner)
    {
        return Finding::wrong(
            check,
            format!(
                "{first} belongs to user {owner} and {other} to user {uid}: the plugin runs as lightningd's user and must read \
                 both. Give both to that user with chown."
            ),
        );
    }
    Finding::ok(check, "only their owner reads hsm_secret and backstop/")
}

/// Whether there is room for what Backstop keeps beside the database: its shadow, and for a while a second copy.
pub(super) fn room(files: &NodeDir) -> Finding {
    let check = "disk";
    let net = files.net();
    let database = match files.wallet() {
        Wallet::Sqlite(path) => fs::metadata(path).map_or(0, |metadata| metadata.len()),
        Wallet::Postgres => 0,
    };
    match statvfs(&net) {
        Ok(found) => room_of(
            &net,
            found.blocks_available().saturating_mul(found.fragment_size()),
            database,
        ),
        Err(error) => Finding::skipped(
            check,
            format!("how full {} is cannot be told: {error}", net.display()),
        ),
    }
}

fn room_of(net: &Path, free: u64, database: u64) -> Finding {
    let (check, net, free_mib) = ("disk", net.display(), free >> 20);
    if free < LEAST {
        return Finding::wrong(
            check,
            format!(
                "{net} has {free_mib} MiB left: lightningd's next commit may fail, and it stops. Make room; backstop/shadow may be \
                 deleted while lightningd is stopped."
            ),
        );
    }
    if free < database.saturating_mul(2) {
        return Finding::warning(
            check,
            format!(
                "{net} has {free_mib} MiB left, and Backstop needs up to twice the database's {} MiB for a while. Without it \
                 roll-ups are put off and the log grows. Make room, or set keep = false under [shadow] in backstop/config.toml.",
                database >> 20
            ),
        );
    }
    Finding::ok(check, format!("{free_mib} MiB left"))
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Level, *};
    use backstop_protocol::id::Network;
    use std::os::unix::fs::PermissionsExt;

    fn node() -> (tempfile::TempDir, NodeDir) {
        let dir = tempfile::tempdir().unwrap();
        let net = dir.path().join("regtest");
        fs::create_dir_all(net.join("backstop")).unwrap();
        let asked = crate::cln::locate::Asked {
            lightning_dir: Some(dir.path().to_owned()),
            network: Some(Network::Regtest),
            ..Default::default()
        };
        let found = NodeDir::find(&asked, None, dir.path()).unwrap();
        (dir, found)
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_secret_that_others_may_read_is_named_with_the_command_that_mends_it() {
        let (_dir, node) = node();
        mode(&node.backstop(), 0o700);
        fs::write(node.hsm_secret(), [7; 32]).unwrap();
        for (bits, level) in [(0o400, Level::Ok), (0o440, Level::Wrong), (0o604, Level::Wrong)] {
            mode(&node.hsm_secret(), bits);
            let found = modes(&node);
            assert_eq!(found.level, level, "{found:?}");
            assert_eq!(
                found.says.contains("chmod go= "),
                level == Level::Wrong,
                "{found:?}"
            );
        }
        mode(&node.hsm_secret(), 0o400);
        mode(&node.backstop(), 0o750);
        assert!(modes(&node).says.contains("/backstop has mode 750"));
    }

    #[test]
    fn room_is_judged_by_the_database_and_by_what_lightningd_itself_needs() {
        let level = |free, database| room_of(Path::new("/n"), free, database).level;
        assert_eq!(level(LEAST - 1, 0), Level::Wrong);
        assert_eq!(level(LEAST, 0), Level::Ok);
        assert_eq!(level(2 << 30, 1 << 30), Level::Ok);
        assert_eq!(level((2 << 30) - 1, 1 << 30), Level::Warning);
    }
}
