//! `cargo demo`: a node is backed up, lost, and comes back, in front of your eyes.
#![expect(clippy::print_stdout, reason = "a program that a person looks at")]

use anyhow::{Context, Result, ensure};
use backstop_tests::{
    binaries::binary,
    compare::assert_equal,
    disk,
    figures::{Times, size, time},
    lightningd::{Death, Fault, Lightningd, Moment, Options, Victim},
    node::{Node, restore, restored_database},
    oracle::Oracle,
    plugin::Program,
    servers::Server,
};
use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    time::{Duration, Instant},
};

/// Payments before the machine dies, unless the time is over first.
const PAYMENTS: u64 = 120;
const PAYING: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\nThe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<()> {
    let plugin = binary("backstop")?;
    println!("A Lightning node is backed up, lost, and comes back.\n");

    let server = Server::start()?;
    step(
        1,
        "A server",
        &format!("backstop-server, empty, on {}", server.url()),
    );

    let node = Node::new(2026)?;
    node.setup(&server.url())?;
    step(2, "A node", &format!("{} on {}", node.node_id()?, node.network()));
    more("its only secret is 32 bytes in hsm_secret; `backstop setup` is done");

    let oracle = Oracle::default();
    let mut options = Options::new(Program::new(plugin), 2026);
    options.oracle = Some(oracle.clone());
    let mut lightningd = Lightningd::start(&node, &options)?;
    step(
        3,
        "It lives",
        "lightningd (simulated) owns a real SQLite database and commits only what the plugin lets it",
    );
    let payments = pay(&mut lightningd, &server)?;

    lightningd.arm(Fault {
        batch: 7,
        moment: Moment::Committed,
        victim: Victim::Machine,
    });
    let death = lightningd.pay().err().context("the machine survived")?;
    ensure!(matches!(death, Death::Killed(_)), "{death}");
    let hook: Times = lightningd.hook_times().iter().copied().collect();
    lightningd.kill()?;
    step(
        4,
        "It dies",
        &format!(
            "kill -9 of lightningd and plugin, in the middle of payment {}",
            payments + 1
        ),
    );
    let morgue = tempfile::tempdir()?;
    let dead = disk::copy_database(&node.database(), morgue.path())?;
    let secret = morgue.path().join("hsm_secret");
    std::fs::copy(node.hsm_secret(), &secret)?;
    let network = node.network();
    drop(node);
    more("its disk is wiped; kept are hsm_secret, and the dead database to compare with");

    let elsewhere = tempfile::tempdir()?;
    let to = elsewhere.path().join("new-machine");
    let started = Instant::now();
    let said = restore(&server.url(), &to, network, &secret)?.success()?;
    let took = started.elapsed();
    step(
        5,
        "It comes back",
        "`backstop restore` into an empty directory, from the secret and the URL alone:",
    );
    for line in said.stdout.lines().filter(|line| !line.trim().is_empty()) {
        println!("     \u{2502} {line}");
    }

    let restored = restored_database(&to, network);
    let equal = assert_equal(&restored, &dead).context("the restored database and the one that died")?;
    oracle.check(&restored).context("the restored database")?;
    println!("\nProved");
    proved(&format!(
        "the restored database equals the one that died: schema, {} tables, {} rows with their rowids",
        equal.tables, equal.rows
    ));
    proved(&format!(
        "it is what {} batches make, each applied once, up to the one that was committed when the machine died",
        oracle.batches()
    ));
    proved(&format!(
        "a commit waited {} for its backup (median), {} (99th percentile), over {} commits",
        time(hook.median()),
        time(hook.percentile(99)),
        hook.count()
    ));
    proved(&format!(
        "database {}, on the server {}; restored in {}",
        size(std::fs::metadata(&restored)?.len()),
        size(server.bytes_on_disk()?),
        time(took)
    ));
    println!("\nThe same on a real node: README.md, \"Run it for real, in five minutes\".");
    Ok(())
}

/// Pays, and shows the backup growing; how many payments.
fn pay(lightningd: &mut Lightningd, server: &Server) -> Result<u64> {
    let (started, live) = (Instant::now(), std::io::stdout().is_terminal());
    let mut payments = 0;
    while payments < PAYMENTS && started.elapsed() < PAYING {
        lightningd.pay()?;
        payments += 1;
        if live || payments % 20 == 0 {
            let last: Times = lightningd.hook_times().iter().rev().take(200).copied().collect();
            let line = format!(
                "{payments:>4} payments, database at version {}, {} on the server, a commit waits {}",
                lightningd.version(),
                size(server.bytes_on_disk()?),
                time(last.median())
            );
            print!(
                "{}     {line}{}",
                if live { "\r" } else { "" },
                if live { "  " } else { "\n" }
            );
            std::io::stdout().flush()?;
        }
    }
    if live {
        println!();
    }
    Ok(payments)
}

fn step(number: u64, what: &str, how: &str) {
    println!("{number}  {what:<15} {how}");
}

fn more(line: &str) {
    println!("   {:<15} {line}", "");
}

fn proved(what: &str) {
    println!("  \u{2713} {what}");
}
