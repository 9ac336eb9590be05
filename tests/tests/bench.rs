//! The benchmark runs from end to end. Its figures are of no account here.

use anyhow::Result;
use backstop_tests::binaries::binary;
use std::process::Command;

#[test]
fn the_benchmark_measures_everything_it_promises() -> Result<()> {
    // Both are found beside the benchmark.
    binary("backstop")?;
    binary("backstop-server")?;
    let directory = tempfile::tempdir()?;
    let json = directory.path().join("bench.json");
    let output = Command::new(binary("bench-all")?)
        .args(["--quick", "--no-build", "--json"])
        .arg(&json)
        .env_remove("CARGO")
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(json)?)?;
    let rows = report["rows"].as_array().cloned().unwrap_or_default();
    for name in [
        "hook (SQLite): median",
        "hook (SQLite): p99",
        "hook (PostgreSQL): p99",
        "plugin: ",
        "restore",
        "bytes: ",
        "server (SQLite): appends",
        "server (SQLite): lone append",
        "server (PostgreSQL): appends",
        "slow flushes (SQLite): appends, 16 nodes",
        "slow flushes (PostgreSQL): lone append",
        "sessions: ",
        "crowd (SQLite): ",
        "crowd (PostgreSQL): ",
        "size of ",
        "first batch held, database sent ahead",
        "first batch held, nothing sent ahead",
        "restore of a snapshot",
        "packs: ",
        "roll-up: sent after 1 transaction",
        "roll-up: sent after 1%",
        "append in a roll-up: p99",
        "shadow: ",
    ] {
        let row = rows
            .iter()
            .find(|row| row["name"].as_str().is_some_and(|found| found.starts_with(name)));
        let value = row.and_then(|row| row["ours"].as_f64());
        assert!(value.is_some_and(|value| value > 0.0), "{name}: {said}");
    }
    Ok(())
}
