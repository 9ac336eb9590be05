//! The node goes on while its servers are away, against a spool on its own disk, with the real programs (SPEC 8.10).

use anyhow::{Context, Result, ensure};
use backstop_tests::{
    chaos_proxy::{Direction, Weather},
    lightningd::{Death, Fault, Lightningd, Moment, Victim},
    node::{Node, Spoken, backstop, restored_database},
    oracle::Oracle,
    rng::Rng,
    scene::Scene,
    servers::Server,
    several::Several,
    wallet::Journal,
    watch::{PATIENCE, configure, pay_until_said, says, status, stop},
};
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const ASTRAY: &str = "do not belong behind";

/// Bounds of a spool, as the configuration has them.
struct Bounds {
    bytes: u64,
    seconds: u64,
    halt_after: u64,
}

const WIDE: Bounds = Bounds {
    bytes: 64 << 20,
    seconds: 600,
    halt_after: 600,
};

/// A node that spools after a second, with one server.
fn spooling(seed: u64, bounds: &Bounds) -> Result<Scene> {
    let scene = Scene::new(seed, Journal::Delete)?;
    set(&scene, bounds)?;
    Ok(scene)
}

fn set(scene: &Scene, bounds: &Bounds) -> Result<()> {
    let Bounds {
        bytes,
        seconds,
        halt_after,
    } = bounds;
    configure(scene, "policy = \"stall\"", "policy = \"spool\"")?;
    configure(scene, "after_seconds = 5", "after_seconds = 1")?;
    configure(scene, "bytes = 67108864", &format!("bytes = {bytes}"))?;
    configure(scene, "\nseconds = 600", &format!("\nseconds = {seconds}"))?;
    configure(
        scene,
        "halt_after_seconds = 600",
        &format!("halt_after_seconds = {halt_after}"),
    )
}

fn file(scene: &Scene) -> PathBuf {
    scene.node.network_dir().join("backstop/spool")
}

/// Restores of one node into directories of their own.
struct Restores {
    into: TempDir,
    server: String,
    secret: PathBuf,
}

impl Restores {
    fn of(scene: &Scene) -> Result<Self> {
        Ok(Self {
            into: tempfile::tempdir()?,
            server: scene.server.url(),
            secret: scene.node.hsm_secret(),
        })
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.into.path().join(name)
    }

    fn attempt(&self, name: &str, more: &[&str]) -> Result<Spoken> {
        let to = self.dir(name);
        let (to, secret) = (
            to.to_str().context("a path")?,
            self.secret.to_str().context("a path")?,
        );
        let mut arguments = vec!["restore", "--server", &self.server, "--to", to, "--network"];
        arguments.extend(["regtest", "--hsm-secret", secret]);
        arguments.extend_from_slice(more);
        backstop(&arguments)
    }

    /// What comes back is exactly what the node acted on.
    fn check(&self, name: &str, more: &[&str], oracle: &Oracle) -> Result<Spoken> {
        let spoken = self.attempt(name, more)?.success()?;
        let database = restored_database(&self.dir(name), backstop_protocol::id::Network::Regtest);
        oracle.check(&database).context("the restored database")?;
        Ok(spoken)
    }
}

/// The node's own database and a restored one hold what was acted on.
fn check(scene: &Scene) -> Result<()> {
    ensure!(!file(scene).exists(), "the spool was not drained");
    scene
        .oracle
        .check(&scene.node.database())
        .context("the node's own")?;
    Restores::of(scene)?.check("checked", &["--old-node-is-off"], &scene.oracle)?;
    Ok(())
}

/// Plugin and lightningd die at once.
fn crash(mut lightningd: Lightningd) -> Result<()> {
    lightningd.plugin().kill();
    drop(lightningd.kill()?);
    Ok(())
}

/// Pays until a batch is refused; what the plugin said by then.
fn pay_until_refused(lightningd: &mut Lightningd) -> Result<String> {
    let started = Instant::now();
    loop {
        ensure!(started.elapsed() < PATIENCE, "it was never refused");
        match lightningd.pay() {
            Ok(_) => {}
            Err(Death::Refused(_)) => return Ok(lightningd.plugin().says()),
            Err(other) => return Err(other.into()),
        }
    }
}

#[test]
fn while_the_server_is_away_the_node_goes_on_and_the_server_gets_everything_in_order_later() -> Result<()> {
    for (seed, weather) in [(300, Weather::Refuse), (301, Weather::Hold)] {
        let mut scene = spooling(seed, &WIDE)?;
        let mut lightningd = scene.start(1)?;
        lightningd.pay()?;
        ensure!(!file(&scene).exists(), "a spool while the server is there");
        for _ in 0..2 {
            scene.proxy.set(weather);
            lightningd.pay()?;
            let held = std::fs::metadata(file(&scene)).context("no spool")?.len();
            ensure!(held > 0 && says(&mut lightningd, "The node goes on, and keeps its updates in"));
            scene.proxy.set(Weather::Clear);
            pay_until_said(&mut lightningd, "The spool is drained")?;
            while file(&scene).exists() {
                lightningd.pay()?;
            }
        }
        stop(lightningd)?;
        check(&scene).with_context(|| format!("{weather:?}"))?;
    }
    Ok(())
}

#[test]
fn status_says_what_is_on_this_disk_alone_and_within_which_bounds() -> Result<()> {
    let mut scene = spooling(302, &WIDE)?;
    let mut lightningd = scene.start(1)?;
    ensure!(status(&scene)?.pointer("/outage") == Some(&"spool".into()));
    ensure!(
        status(&scene)?
            .pointer("/spool")
            .is_some_and(serde_json::Value::is_null)
    );
    scene.proxy.set(Weather::Refuse);
    lightningd.pay()?;
    let said = status(&scene)?;
    let number = |pointer: &str| said.pointer(pointer).and_then(serde_json::Value::as_u64);
    ensure!(
        number("/spool/records").is_some_and(|records| records >= 13),
        "{said}"
    );
    ensure!(number("/spool/bytes") == Some(std::fs::metadata(file(&scene))?.len()));
    ensure!(number("/spool/most_bytes") == Some(64 << 20) && number("/spool/most_seconds") == Some(600));
    ensure!(number("/spool/age_seconds").is_some());
    ensure!(said.pointer("/protected") == Some(&false.into()), "{said}");
    let text = scene.node.command(&["status"])?.stdout;
    ensure!(text.contains("are in the spool"), "{text}");
    crash(lightningd)
}

#[test]
fn beyond_its_bytes_or_its_seconds_the_node_waits_and_halts_and_the_next_start_drains_it() -> Result<()> {
    let few_bytes = Bounds {
        bytes: 16 << 10,
        halt_after: 2,
        ..WIDE
    };
    let few_seconds = Bounds {
        seconds: 3,
        halt_after: 2,
        ..WIDE
    };
    for (seed, bounds, why) in [
        (303, few_bytes, "outage.spool.bytes"),
        (304, few_seconds, "outage.spool.seconds"),
    ] {
        let mut scene = spooling(seed, &bounds)?;
        let mut lightningd = scene.start(1)?;
        lightningd.pay()?;
        scene.proxy.set(Weather::Refuse);
        let said = pay_until_refused(&mut lightningd)?;
        ensure!(said.contains("The spool takes no more"), "{said}");
        ensure!(said.contains(why) || said.contains("its time is over"), "{said}");
        ensure!(said.contains("Keep that file"), "{said}");
        ensure!(std::fs::metadata(file(&scene))?.len() <= bounds.bytes);
        crash(lightningd)?;
        scene.proxy.set(Weather::Clear);
        let mut lightningd = scene.start(2)?;
        ensure!(says(&mut lightningd, "The last run left"));
        lightningd.pay()?;
        stop(lightningd)?;
        check(&scene).context(why)?;
    }
    Ok(())
}

#[test]
fn a_plugin_killed_while_it_spools_drains_at_the_next_start_which_waits_for_the_server() -> Result<()> {
    let mut scene = spooling(305, &WIDE)?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    scene.proxy.set(Weather::Refuse);
    lightningd.pay()?;
    crash(lightningd)?;
    // A start is no outage that a spool is for: nobody has confirmed this run.
    let before = std::fs::read(file(&scene))?;
    let refused = scene.proxy.counts().1;
    let proxy = &scene.proxy;
    let (node, options) = (&scene.node, &scene.options);
    let mut lightningd = std::thread::scope(|scope| -> Result<Lightningd> {
        let starting = scope.spawn(|| Lightningd::start(node, options));
        proxy.wait_for_refusals(refused + 4);
        ensure!(!starting.is_finished(), "it did not wait");
        ensure!(std::fs::read(file(&scene))? == before, "it went on spooling");
        proxy.set(Weather::Clear);
        let started = starting
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok(started?)
    })?;
    ensure!(says(&mut lightningd, "The last run left"));
    lightningd.pay()?;
    stop(lightningd)?;
    check(&scene)
}

#[test]
fn a_power_cut_while_it_spools_is_healed_from_the_spool() -> Result<()> {
    // With one update in the spool, two that are lost reach back behind it.
    for (seed, spooled, back) in [(306, 1, 1), (308, 1, 2), (310, 5, 2)] {
        let mut scene = spooling(seed, &WIDE)?;
        let mut lightningd = scene.start(1)?;
        lightningd.pay()?;
        scene.proxy.set(Weather::Refuse);
        for _ in 0..spooled {
            lightningd.write_large(500)?;
        }
        lightningd.power_cut(back)?;
        scene.proxy.set(Weather::Clear);
        let mut lightningd = scene.start(2)?;
        ensure!(
            says(&mut lightningd, "They were applied from the backup"),
            "{}",
            lightningd.plugin().says()
        );
        lightningd.pay()?;
        stop(lightningd)?;
        check(&scene).with_context(|| format!("{spooled} spooled, {back} back"))?;
    }
    Ok(())
}

#[test]
fn writes_after_the_plugin_left_are_healed_behind_a_spool_too() -> Result<()> {
    let mut scene = spooling(312, &WIDE)?;
    let mut lightningd = scene.start(1)?;
    scene.proxy.set(Weather::Refuse);
    lightningd.pay()?;
    lightningd.stop(3)?;
    ensure!(file(&scene).exists(), "no spool is left");
    scene.proxy.set(Weather::Clear);
    let mut lightningd = scene.start(2)?;
    ensure!(says(
        &mut lightningd,
        "were written while no backup was listening"
    ));
    lightningd.pay()?;
    stop(lightningd)?;
    check(&scene)
}

#[test]
fn a_torn_end_was_never_answered_and_a_damaged_middle_halts() -> Result<()> {
    let mut scene = spooling(314, &WIDE)?;
    let mut lightningd = scene.start(1)?;
    scene.proxy.set(Weather::Refuse);
    lightningd.pay()?;
    crash(lightningd)?;
    let whole = std::fs::read(file(&scene))?;
    let mut damaged = whole.clone();
    let byte = damaged.get_mut(200).context("no record")?;
    *byte ^= 1;
    std::fs::write(file(&scene), &damaged)?;
    scene.proxy.set(Weather::Clear);
    let refused = scene.start(2).err().context("it went on without its updates")?;
    ensure!(refused.to_string().contains("is damaged"), "{refused}");
    let torn: Vec<u8> = whole
        .iter()
        .chain(whole.get(16..300).context("no record")?)
        .copied()
        .collect();
    std::fs::write(file(&scene), &torn)?;
    let mut lightningd = scene.start(3)?;
    lightningd.pay()?;
    stop(lightningd)?;
    check(&scene)
}

#[test]
fn a_takeover_within_its_time_needs_a_word_and_the_old_machine_ends_with_what_to_do() -> Result<()> {
    let mut scene = spooling(316, &WIDE)?;
    let restores = Restores::of(&scene)?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    scene.proxy.set(Weather::Refuse);
    lightningd.pay()?;
    let refused = restores.attempt("new", &[])?.failure()?;
    ensure!(refused.stderr.contains("--old-node-is-off"), "{}", refused.stderr);
    // Nobody was fenced off.
    scene.proxy.set(Weather::Clear);
    pay_until_said(&mut lightningd, "The spool is drained")?;
    scene.proxy.set(Weather::Refuse);
    lightningd.pay()?;

    let said = restores.attempt("new", &["--old-node-is-off"])?.success()?.stdout;
    ensure!(said.contains("MISSING?"), "{said}");
    scene.proxy.set(Weather::Clear);
    let status = lightningd.plugin().wait()?;
    let said = lightningd.plugin().says();
    ensure!(status != 0 && said.contains("took this node over"), "{said}");
    ensure!(said.contains("restore --spool"), "{said}");
    drop(lightningd.kill()?);
    let refused = scene.start(2).err().context("the old machine was let in")?;
    let refused = refused.to_string();
    ensure!(
        refused.contains("took this node over") && refused.contains("restore --spool"),
        "{refused}"
    );
    let adopted = scene.node.command(&["adopt", "--old-node-is-off"])?.failure()?;
    ensure!(adopted.stderr.contains("restore --spool"), "{}", adopted.stderr);

    // As long as the new machine did not go on, the old disk's updates can be brought in.
    let old = scene.node.lightning_dir().to_str().context("a path")?;
    let more = ["--old-node-is-off", "--spool", old];
    let said = restores.check("with", &more, &scene.oracle)?.stdout;
    ensure!(said.contains("they are part of the backup now"), "{said}");
    Ok(())
}

#[test]
fn an_old_disks_spool_is_brought_in_once_and_not_any_more_when_the_new_machine_went_on() -> Result<()> {
    let mut scene = spooling(344, &WIDE)?;
    let restores = Restores::of(&scene)?;
    let mut lightningd = scene.start(1)?;
    scene.proxy.set(Weather::Refuse);
    lightningd.pay()?;
    crash(lightningd)?;
    scene.proxy.set(Weather::Clear);
    let network_dir = scene.node.network_dir();
    let more = |spool: &Path| -> Result<Vec<String>> {
        let spool = spool.to_str().context("a path")?.to_owned();
        Ok(vec!["--old-node-is-off".to_owned(), "--spool".to_owned(), spool])
    };
    let with = |name: &str, spool: &Path| -> Result<Spoken> {
        let more = more(spool)?;
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        restores.attempt(name, &more)
    };
    with("with", &network_dir)?.success()?;
    // Typed again, it finds them there.
    let said = with("again", &file(&scene))?.success()?.stdout;
    ensure!(said.contains("the servers lacked 0"), "{said}");
    for name in ["with", "again"] {
        let database = restored_database(&restores.dir(name), scene.node.network());
        scene.oracle.check(&database)?;
    }
    let new = scene.node.at(&restores.dir("again"))?;
    let _old_disk = std::mem::replace(&mut scene.node, new);
    let mut lightningd = scene.start(3)?;
    lightningd.pay()?;
    stop(lightningd)?;
    let late = with("late", &network_dir.join("backstop"))?.failure()?;
    ensure!(late.stderr.contains(ASTRAY), "{}", late.stderr);
    scene.oracle.check(&scene.node.database())?;
    Ok(())
}

#[test]
fn once_its_time_is_over_a_takeover_needs_no_word() -> Result<()> {
    let short = Bounds { seconds: 3, ..WIDE };
    let mut scene = spooling(318, &short)?;
    let restores = Restores::of(&scene)?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    crash(lightningd)?;
    let started = Instant::now();
    loop {
        let spoken = restores.attempt("new", &[])?;
        if spoken.status == Some(0) {
            ensure!(spoken.stdout.contains("MISSING?"), "{}", spoken.stdout);
            break;
        }
        ensure!(spoken.stderr.contains("--old-node-is-off"), "{}", spoken.stderr);
        ensure!(started.elapsed() < PATIENCE, "never: {}", spoken.stderr);
        // As it says: it is time alone that is waited for.
        let rest = spoken.stderr.split("Wait ").nth(1).context("no time to wait")?;
        let seconds = rest.split(' ').next().context("no time to wait")?;
        std::thread::sleep(Duration::from_secs(seconds.parse()?));
    }
    // The operator's choice came along.
    let config = std::fs::read_to_string(restores.dir("new").join("regtest/backstop/config.toml"))?;
    ensure!(
        config.contains("policy = \"spool\"") && config.contains("seconds = 3"),
        "{config}"
    );
    Ok(())
}

#[test]
fn an_operator_who_takes_spool_back_is_restored_without_a_word_again() -> Result<()> {
    let mut scene = spooling(320, &WIDE)?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    stop(lightningd)?;
    let refused = scene.try_restore("early")?.failure()?;
    ensure!(refused.stderr.contains("--old-node-is-off"), "{}", refused.stderr);
    let adopted = scene.node.command(&["adopt"])?.failure()?;
    ensure!(adopted.stderr.contains("--old-node-is-off"), "{}", adopted.stderr);
    scene.node.command(&["adopt", "--old-node-is-off"])?.success()?;
    configure(&scene, "policy = \"spool\"", "policy = \"stall\"")?;
    let mut lightningd = scene.start(2)?;
    lightningd.pay()?;
    stop(lightningd)?;
    scene.check()
}

/// A node that spools after a second, with three servers of which two must hold each update.
fn several_spooling(seed: u64) -> Result<Several> {
    let several = Several::new(seed, 3, "majority", &[])?;
    let path = several.node.network_dir().join("backstop/config.toml");
    let text = std::fs::read_to_string(&path)?;
    ensure!(
        text.contains("policy = \"stall\"") && text.contains("after_seconds = 5"),
        "{text}"
    );
    let text = text.replace("policy = \"stall\"", "policy = \"spool\"");
    std::fs::write(&path, text.replace("after_seconds = 5", "after_seconds = 1"))?;
    Ok(several)
}

#[test]
fn an_old_disks_spool_is_brought_to_enough_servers_whichever_of_them_had_some_of_it() -> Result<()> {
    for (seed, with_the_one_that_stayed) in [(342, true), (343, false)] {
        let mut several = several_spooling(seed)?;
        let mut lightningd = several.start(1)?;
        lightningd.pay()?;
        several.servers[0].kill()?;
        several.servers[1].kill()?;
        lightningd.pay()?;
        crash(lightningd)?;
        several.servers[0].restart()?;
        several.servers[1].restart()?;
        if !with_the_one_that_stayed {
            several.servers[2].kill()?;
        }
        let old = several.node.lightning_dir().to_owned();
        let more = ["--old-node-is-off", "--spool", old.to_str().context("a path")?];
        let said = several.try_restore(0, "new", &more)?.success()?.stdout;
        ensure!(said.contains("they are part of the backup now"), "{said}");
        let database = restored_database(&several.restored("new"), several.node.network());
        several.oracle.check(&database)?;
        if !with_the_one_that_stayed {
            several.servers[2].restart()?;
        }
        // It goes on there, with any two.
        let new = several.node.at(&several.restored("new"))?;
        let _old_disk = std::mem::replace(&mut several.node, new);
        let mut lightningd = several.start(2)?;
        lightningd.pay()?;
        several.servers[0].kill()?;
        lightningd.pay()?;
        stop(lightningd)?;
        several.oracle.check(&several.node.database())?;
    }
    Ok(())
}

#[test]
fn with_two_of_three_servers_away_it_spools_too_and_all_three_get_everything() -> Result<()> {
    let mut several = several_spooling(322)?;
    let mut lightningd = several.start(1)?;
    lightningd.pay()?;
    for away in 0..3 {
        let (one, other) = (away, (away + 1) % 3);
        several.servers[one].kill()?;
        several.servers[other].kill()?;
        lightningd.pay()?;
        let spool = several.node.network_dir().join("backstop/spool");
        ensure!(spool.exists(), "it did not spool: {}", lightningd.plugin().says());
        several.servers[one].restart()?;
        while spool.exists() {
            lightningd.pay()?;
        }
        several.servers[other].restart()?;
    }
    // Killed while two are away, it drains to whichever two there are at its start.
    several.servers[0].kill()?;
    several.servers[1].kill()?;
    lightningd.pay()?;
    crash(lightningd)?;
    several.servers[2].kill()?;
    several.servers[0].restart()?;
    several.servers[1].restart()?;
    let mut lightningd = several.start(2)?;
    lightningd.pay()?;
    stop(lightningd)?;
    several.oracle.check(&several.node.database())?;
    several
        .try_restore(0, "checked", &["--old-node-is-off"])?
        .success()?;
    let database = restored_database(&several.restored("checked"), several.node.network());
    several.oracle.check(&database)?;
    Ok(())
}

#[test]
fn setup_takes_the_operators_choice_and_does_not_change_it_behind_his_back() -> Result<()> {
    let server = Server::start()?;
    let node = Node::new(324)?;
    let url = server.url();
    let setup = |policy: &str| node.command(&["setup", "--server", &url, "--outage", policy]);
    setup("spool")?.success()?;
    let path = node.network_dir().join("backstop/config.toml");
    let config = std::fs::read_to_string(&path)?;
    ensure!(config.contains("policy = \"spool\""), "{config}");
    setup("spool")?.success()?;
    let refused = setup("stall")?.failure()?;
    ensure!(refused.stderr.contains("[outage]"), "{}", refused.stderr);
    ensure!(std::fs::read_to_string(&path)? == config);
    Ok(())
}

/// What befalls a node in its random life.
fn life(scene: &mut Scene, rng: &mut Rng, seed: u64) -> Result<()> {
    let mut lightningd = scene.start_or_restart(seed)?;
    for _ in 0..rng.between(1, 3) {
        scene.proxy.set(match rng.below(4) {
            0 => Weather::Clear,
            1 => Weather::Cut(Direction::ToServer, rng.below(20_000)),
            2 => Weather::Cut(Direction::ToClient, rng.below(2_000)),
            _ => Weather::Refuse,
        });
        lightningd.pay()?;
    }
    if rng.one_in(3) {
        return Ok(lightningd.power_cut(rng.below(3))?);
    }
    let moments = [
        Moment::Executed,
        Moment::Sent,
        Moment::Continued,
        Moment::Committed,
    ];
    let victims = [Victim::Plugin, Victim::Lightningd, Victim::Machine];
    lightningd.arm(Fault {
        batch: rng.below(10),
        moment: *rng.pick(&moments).context("a moment")?,
        victim: *rng.pick(&victims).context("a victim")?,
    });
    let started = Instant::now();
    while lightningd.pay().is_ok() {
        ensure!(started.elapsed() < PATIENCE, "nobody died");
    }
    crash(lightningd)
}

#[test]
fn whoever_dies_whenever_in_whatever_weather_nothing_that_was_acted_on_is_lost() -> Result<()> {
    for seed in 330..335 {
        let mut rng = Rng::new(seed);
        let mut scene = spooling(seed, &WIDE)?;
        let mut lives = || -> Result<()> {
            for number in 0..4 {
                life(&mut scene, &mut rng, seed * 100 + number).with_context(|| format!("life {number}"))?;
                scene.proxy.set(Weather::Clear);
            }
            let mut lightningd = scene.start_or_restart(seed)?;
            lightningd.pay()?;
            while file(&scene).exists() {
                lightningd.pay()?;
            }
            stop(lightningd)?;
            check(&scene)
        };
        lives().with_context(|| format!("seed {seed}"))?;
    }
    Ok(())
}

#[test]
fn with_stall_a_connection_that_is_only_half_there_is_noticed_and_each_attempt_is_said() -> Result<()> {
    let mut scene = Scene::new(340, Journal::Delete)?;
    configure(&scene, "timeout_seconds = 10", "timeout_seconds = 1")?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    scene.proxy.set(Weather::Hold);
    let (before, _) = scene.proxy.counts();
    let proxy = &scene.proxy;
    std::thread::scope(|scope| -> Result<()> {
        let paying = scope.spawn(|| lightningd.pay());
        // The first attempt is on a connection that was there before; each later one makes its own.
        let started = Instant::now();
        while proxy.counts().0 < before + 2 {
            ensure!(started.elapsed() < PATIENCE, "it was not noticed");
            std::thread::yield_now();
        }
        ensure!(!paying.is_finished(), "it did not wait");
        proxy.set(Weather::Clear);
        paying
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(())
    })?;
    for said in ["silence for 1 s", "attempt 2, halting in", "the node goes on"] {
        ensure!(
            says(&mut lightningd, said),
            "{said}: {}",
            lightningd.plugin().says()
        );
    }
    stop(lightningd)?;
    scene.check()
}
