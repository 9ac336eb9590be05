//! `cargo demo`: a node is backed up, lost, and comes back, in front of your eyes.
#![expect(clippy::print_stdout, reason = "a program that a person looks at")]

use anyhow::{Context, Result, ensure};
use backstop_protocol::clock::{Clock, SystemClock};
use backstop_tests::{
    binaries::binary,
    compare::assert_equal,
    disk,
    figures::{Times, size, time},
    lightningd::{Death, Fault, Lightningd, Moment, Options, Victim},
    node::{Node, restore, restored_database},
    oracle::Oracle,
    plugin::Program,
    rng::Rng,
    servers::Server,
};
use std::{
    io::{IsTerminal, Write},
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

/// Payments before the machine dies, unless the time is over first.
const PAYMENTS: u64 = 200;
const PAYING: Duration = Duration::from_secs(20);
/// How long something in the background may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// How the plugin says that the backup is worth something.
const PROVED: &str = "The backup is proved";
/// Where in a call of the hook the machine may die.
const MOMENTS: [Moment; 3] = [Moment::Sent, Moment::Continued, Moment::Committed];

fn main() -> ExitCode {
    println!("A Lightning node is backed up, lost, and comes back.\n");
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\nThe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::too_many_lines, reason = "one story, told from top to bottom")]
fn demo() -> Result<()> {
    println!("   building the programs, if they are not there yet");
    let plugin = binary("backstop")?;
    let seed = SystemClock.now().0;

    let server = Server::start_with(&["--roll-up-records", "600"])?;
    step(
        1,
        "A server",
        &format!("backstop-server, empty, on {}", server.url()),
    );
    more("it asks for a new snapshot every 600 records, so that the log stays short");

    let node = Node::new(seed)?;
    node.setup(&server.url())?;
    step(2, "A node", &format!("{} on {}", node.node_id()?, node.network()));
    more("its only secret is 32 bytes in hsm_secret; `backstop setup` is done");

    let oracle = Oracle::default();
    let mut options = Options::new(Program::new(plugin), seed);
    options.oracle = Some(oracle.clone());
    let mut lightningd = Lightningd::start(&node, &options)?;
    step(
        3,
        "It lives",
        "lightningd (simulated) owns a real SQLite database and commits only what the plugin lets it",
    );
    let payments = pay(&mut lightningd, &server)?;
    let rolled_up = said_at_last(&mut lightningd, "Rolled up")?;
    step(
        4,
        "It rolls up",
        "while the node went on paying; what was sent was fetched again and opened before it counted:",
    );
    quote(&rolled_up);
    let hook: Times = lightningd.hook_times().iter().copied().collect();
    let sql = lightningd.sql_bytes();
    let on_disk = server.bytes_on_disk()?;
    lightningd.stop(0)?;
    let mut lightningd = start_until_proved(&node, &options)?;
    step(
        5,
        "It proves",
        "at a start, what the backup gives is compared with the live database, table by table:",
    );
    quote(&said_at_last(&mut lightningd, PROVED)?);

    let mut chance = Rng::new(seed);
    let moment = *chance.pick(&MOMENTS).context("no moment to die at")?;
    lightningd.arm(Fault {
        batch: chance.between(2, 9),
        moment,
        victim: Victim::Machine,
    });
    let death = lightningd.pay().err().context("the machine survived")?;
    ensure!(matches!(death, Death::Killed(_)), "{death}");
    lightningd.kill()?;
    step(
        6,
        "It dies",
        &format!(
            "kill -9 of lightningd and plugin in the middle of payment {}, {}",
            payments + 1,
            when(moment)
        ),
    );
    let morgue = tempfile::tempdir()?;
    let dead = disk::copy_database(&node.database(), morgue.path())?;
    let secret = morgue.path().join("hsm_secret");
    std::fs::copy(node.hsm_secret(), &secret)?;

    let elsewhere = tempfile::tempdir()?;
    let to = elsewhere.path().join("new-machine");
    let started = Instant::now();
    let said = restore(&server.url(), &to, node.network(), &secret)?.success()?;
    let took = started.elapsed();
    step(
        7,
        "It comes back",
        "`backstop restore` into an empty directory, from the secret and the URL alone:",
    );
    for line in said.stdout.lines().filter(|line| !line.trim().is_empty()) {
        quote(line);
    }
    let restored = restored_database(&to, node.network());
    let (held, last) = (version(&restored)?, version(&dead)?);
    let ahead = held
        .checked_sub(last)
        .context("the restored database is older than the one that died")?;
    ensure!(
        ahead <= 1,
        "the restored database is {ahead} batches ahead of the one that died"
    );
    let equal = if ahead == 0 {
        Some(assert_equal(&restored, &dead)?)
    } else {
        None
    };

    let new = node.at(&to)?;
    options.seed = seed ^ 1;
    let mut again = Lightningd::start(&new, &options)?;
    for _ in 0..5 {
        again.pay()?;
    }
    step(
        8,
        "It goes on",
        "lightningd starts on the restored directory and makes 5 payments, backed up as before",
    );

    let refused = Lightningd::start(
        &node,
        &Options {
            oracle: None,
            ..options.clone()
        },
    );
    let refusal = refused
        .err()
        .context("the old machine started too: two machines run one node")?;
    step(
        9,
        "Never twice",
        "the old machine, started all the same, is refused before it commits anything:",
    );
    let reason = refusal
        .says
        .lines()
        .find(|line| line.contains("took this node over"));
    let reason = reason
        .with_context(|| format!("the old machine was refused otherwise: {refusal}"))?
        .trim();
    quote(reason);
    again.pay()?;
    again.stop(0)?;

    println!("\nProved");
    match equal {
        Some(equal) => proved(&format!(
            "the restored database equals the one that died: schema, {} tables, {} rows with their rowids",
            equal.tables, equal.rows
        )),
        None => proved(
            "the restored database is the one that died and the batch after it, which the server had and lightningd had \
             not committed yet",
        ),
    }
    let whole = oracle.check(&new.database()).context("the database at the end")?;
    proved(&format!(
        "at the end it is what {} batches make, each applied once, over both machines ({} rows)",
        oracle.batches(),
        whole.rows
    ));
    proved(&format!(
        "a commit waited {} for its backup (median), {} (99th percentile), over {} commits",
        time(hook.median()),
        time(hook.percentile(99)),
        hook.count()
    ));
    proved(&format!(
        "{} of SQL became {} on the server's disk, its own journal and history included; restored in {}",
        size(sql),
        size(on_disk),
        time(took)
    ));
    println!("\nThe same on a real node: README.md, \"Run it for real, in five minutes\".");
    Ok(())
}

/// Starts lightningd on what it has until a start is one that compares: the one after an upgrade of the schema takes a
/// snapshot instead.
fn start_until_proved(node: &Node, options: &Options) -> Result<Lightningd> {
    let lightningd = Lightningd::start(node, options)?;
    lightningd.stop(0)?;
    Ok(Lightningd::start(node, options)?)
}

/// Waits, paying, until the plugin says it; the last line that does.
fn said_at_last(lightningd: &mut Lightningd, text: &str) -> Result<String> {
    let started = Instant::now();
    loop {
        let log = lightningd.plugin().log();
        if let Some((_, line)) = log.iter().rfind(|(_, line)| line.contains(text)) {
            return Ok(line.clone());
        }
        ensure!(started.elapsed() < PATIENCE, "the plugin never said: {text}");
        lightningd.pay()?;
    }
}

/// A moment in words.
fn when(moment: Moment) -> &'static str {
    match moment {
        Moment::Sent => "while the plugin holds an update",
        Moment::Continued => "between the plugin's word and the commit",
        _ => "right after a commit",
    }
}

/// The version of a closed database, as whoever opens it next sees it.
fn version(database: &Path) -> Result<u64> {
    let copies = tempfile::tempdir()?;
    let copy = disk::copy_database(database, copies.path())?;
    let connection = rusqlite::Connection::open(copy)?;
    let asked = "SELECT intval FROM vars WHERE name = 'data_version'";
    let version: i64 = connection.query_row(asked, [], |row| row.get(0))?;
    Ok(version.try_into()?)
}

/// Pays, and shows the backup growing; how many payments.
fn pay(lightningd: &mut Lightningd, server: &Server) -> Result<u64> {
    let (start, terminal) = (Instant::now(), std::io::stdout().is_terminal());
    let mut payments = 0;
    while payments < PAYMENTS && start.elapsed() < PAYING {
        lightningd.pay()?;
        payments += 1;
        if terminal || payments % 40 == 0 {
            let last: Times = lightningd.hook_times().iter().rev().take(200).copied().collect();
            let shown = format!(
                "{payments:>4} payments, {} batches, {} of SQL, {} on the server, a commit waits {}",
                lightningd.hook_times().len(),
                size(lightningd.sql_bytes()),
                size(server.bytes_on_disk()?),
                time(last.median())
            );
            print!(
                "{}     {shown}{}",
                if terminal { "\r" } else { "" },
                if terminal { "  " } else { "\n" }
            );
            std::io::stdout().flush()?;
        }
    }
    if terminal {
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

fn quote(line: &str) {
    println!("     \u{2502} {line}");
}

fn proved(what: &str) {
    println!("  \u{2713} {what}");
}
