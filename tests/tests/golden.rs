//! The plugin's streams, word for word: every transcript in `tests/transcripts`.

use anyhow::{Context, Result, ensure};
use backstop_tests::{
    binaries::binary,
    compare::Copy,
    golden,
    node::{Node, restored_database},
    plugin::Program,
    servers::Server,
    wallet::version_of,
};
use std::path::Path;

/// Follows one transcript on a node of its own. Its head may hold `# setup: none` and `# restores to: VERSION`.
fn follow(name: &str, text: &str, seed: u64) -> Result<()> {
    let server = Server::start()?;
    let node = Node::new(seed)?;
    // lightningd has opened its database when the first batch comes, and has not written to it yet.
    std::fs::write(node.database(), b"")?;
    if !text.starts_with("# setup: none") {
        node.setup(&server.url())?;
    }
    golden::run(text, &node, &Program::new(binary("backstop")?)).with_context(|| name.to_owned())?;
    let Some(version) = text.lines().find_map(|line| line.strip_prefix("# restores to: ")) else {
        return Ok(());
    };
    let empty = tempfile::tempdir()?;
    let to = empty.path().join("restored");
    node.restore(&server.url(), &to)?.success()?;
    let copy = Copy::open(&restored_database(&to, node.network()))?;
    let restored = version_of(&copy.connection)?;
    ensure!(
        restored == Some(version.parse()?),
        "{name} restores to {restored:?}"
    );
    Ok(())
}

#[test]
fn the_plugin_speaks_as_written_down() -> Result<()> {
    let mut failures = Vec::new();
    let mut count = 0;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts");
    for (seed, entry) in (1000..).zip(std::fs::read_dir(folder)?) {
        let path = entry?.path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path)?;
        if let Err(error) = follow(&name, &text, seed) {
            failures.push(format!("{error:#}"));
        }
        count += 1;
    }
    assert!(
        failures.is_empty(),
        "{} of {count} transcripts:\n{}",
        failures.len(),
        failures.join("\n\n")
    );
    assert!(count >= 15);
    Ok(())
}
