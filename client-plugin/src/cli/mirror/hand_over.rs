//! The warm standby's database into a lightning-dir. It makes nobody the writer: that is what `adopt` is for.

use crate::{
    cln::{NodeDir, locate::Asked},
    durable,
    keys::{KeyFile, Keys},
    mirror::{self, Mirror, Standby},
    replay::{Durability, Replay, check},
    restore::vacant,
};
use anyhow::{Context as _, ensure};
use std::{
    fs::DirBuilder,
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::Path,
};

/// Puts it there, never over another one.
pub(super) fn run(dir: &Path, to: &Path) -> anyhow::Result<()> {
    let _lock = mirror::lock(dir)?;
    let mirror = Mirror::open(dir)?;
    let config = mirror.config();
    let key = KeyFile::read(&mirror::key_path(dir))
        .context("this mirror keeps no standby: run it with --standby, or use `backstop restore --mirror`")?;
    let asked = Asked {
        lightning_dir: Some(to.to_owned()),
        network: Some(config.network),
        ..Asked::default()
    };
    let files = NodeDir::find(&asked, None, dir)?;
    let target = files.net().join("lightningd.sqlite3");
    vacant(&target)?;

    let mut standby = Standby::new(dir, Keys::derive(&key.root));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(standby.follow(&mirror))?;
    let (database, seq) = standby.settle()?.context("the mirror holds no database yet")?;
    let replay = Replay::open(&database, Durability::Process)?;
    let damage = check::integrity(replay.database())?;
    ensure!(
        damage.is_none(),
        "the standby is damaged: run the mirror once, which makes another"
    );
    if let Some(found) = check::node_id(replay.database())? {
        ensure!(
            found == config.node,
            "the standby is node {found}'s, not {}'s",
            config.node
        );
    }
    let version = replay.data_version().context("it holds no node yet")?;
    replay.close()?;

    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(files.net())?;
    let bytes = std::fs::metadata(&database)?.len();
    durable::need_room(&files.net(), bytes)?;
    let copy = files.net().join("lightningd.sqlite3.handed-over");
    std::fs::copy(&database, &copy)
        .and_then(|_| durable::sync_file(&copy))
        .and_then(|()| durable::rename_new(&copy, &target))
        .with_context(|| format!("{} could not be put in place", target.display()))?;
    let (base, network) = (files.base(), config.network);
    let (base, url) = (
        base.display(),
        config.servers.first().map_or("URL", |server| server.url.as_str()),
    );
    writeln!(
        io::stdout(),
        "Wrote     {}, as it was after record {seq} (data_version {version})\n\nNobody is fenced off yet. Next:\n  1. stop \
         lightningd on the old machine, and never start its copy again;\n  2. put the node's hsm_secret to {};\n  3. backstop \
         setup --server {url} --lightning-dir {base} --network {network}\n  4. backstop adopt --lightning-dir {base} --network \
         {network}\n  5. start lightningd with --lightning-dir={base} --network={network}",
        target.display(),
        files.hsm_secret().display(),
    )?;
    Ok(())
}
