//! Random histories of one node, held against a model: lives that end in every way, servers that are away, die and go back to
//! older copies, copies of the directory that are started, takeovers. The model says who may write and whether a start must go
//! on; the oracle says what was acted on. After each step the loser is refused, and at the end what was acknowledged is what
//! is restored.
//!
//! `BACKSTOP_SEED` runs one seed alone; a failure names its seed.

use anyhow::{Context, Result, bail, ensure};
use backstop_tests::{
    halted::{last_word, type_it},
    lightningd::{Fault, Lightningd, Moment, Victim},
    node::Node,
    rng::Rng,
    scene::ROLL_UP_OFTEN,
    seeds::{Budget, many_seeds},
    servers::Server,
    several::Several,
    sql,
    watch::PATIENCE,
};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const BUDGET: Budget = Budget {
    time: Duration::from_secs(12),
    least: 3,
    most: 60,
};
/// Steps of one history.
const STEPS: u64 = 5;

/// One node and all directories that it ever had.
struct History {
    several: Several,
    /// Directories that are not the writer any more, or never were, with the words with which they are refused.
    losers: Vec<(Node, &'static str)>,
    /// Of which server there is a copy of its data, and how many takeovers there had been then.
    kept: Option<(usize, usize)>,
    place: TempDir,
    rng: Rng,
    /// For names.
    made: u64,
    takeovers: usize,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Live,
    LiveWithServerAway,
    KeepServer,
    ServerGoesBack,
    Copy,
    AdoptCopy,
    Restore,
    Losers,
}

const ALL: [Step; 11] = [
    Step::Live,
    Step::Live,
    Step::Live,
    Step::LiveWithServerAway,
    Step::KeepServer,
    Step::ServerGoesBack,
    Step::ServerGoesBack,
    Step::Copy,
    Step::AdoptCopy,
    Step::Restore,
    Step::Losers,
];

impl History {
    fn new(seed: u64, servers: usize) -> Result<Self> {
        let arguments: &[&str] = if seed % 3 == 1 { ROLL_UP_OFTEN } else { &[] };
        let mut several = Several::new(seed, servers, "majority", arguments)?;
        // The directory of the first stays until the end.
        let first = several.node.at(several.node.lightning_dir())?;
        let first = std::mem::replace(&mut several.node, first);
        let mut history = Self {
            several,
            losers: Vec::new(),
            kept: None,
            place: tempfile::tempdir()?,
            rng: Rng::new(seed),
            made: 0,
            takeovers: 0,
        };
        history.losers.push((first, ""));
        history.live()?;
        Ok(history)
    }

    fn server(&mut self, at: usize) -> Result<&mut Server> {
        self.several.servers.get_mut(at).context("no such server")
    }

    fn name(&mut self, what: &str) -> String {
        self.made += 1;
        format!("{what}-{}", self.made)
    }

    /// A start that the model says must go on: at the first try, or at the second, after a word that says so.
    fn start(&mut self) -> Result<Lightningd> {
        let seed = self.rng.below(1 << 40);
        let first = match self.several.start(seed) {
            Ok(lightningd) => return Ok(lightningd),
            Err(first) => first,
        };
        let word = last_word(&first)?;
        ensure!(
            word.to_lowercase().contains("start lightningd again"),
            "the model says go on, and the node says: {word}"
        );
        self.several
            .start(seed)
            .with_context(|| format!("the second start, after {word}"))
    }

    /// One life, which ends somehow.
    fn live(&mut self) -> Result<()> {
        let mut lightningd = self.start()?;
        for _ in 0..self.rng.between(1, 2) {
            if let Err(death) = lightningd.pay() {
                bail!("{death}\n{}", lightningd.plugin().says());
            }
        }
        match self.rng.below(6) {
            0 | 1 => {
                let tail = self.rng.below(3);
                let (status, says) = lightningd.stop(tail)?;
                ensure!(status == 0, "{says}");
            }
            2 => drop(lightningd.kill()?),
            3 => {
                let victims = [Victim::Plugin, Victim::Lightningd, Victim::Machine];
                let moments = [
                    Moment::Executed,
                    Moment::Half(99),
                    Moment::Sent,
                    Moment::Continued,
                ];
                lightningd.arm(Fault {
                    batch: self.rng.below(9),
                    moment: *self.rng.pick(&moments).context("some")?,
                    victim: *self.rng.pick(&victims).context("some")?,
                });
                ensure!(lightningd.pay().is_err(), "nobody died");
                drop(lightningd.kill()?);
            }
            _ => {
                if self.rng.one_in(2) {
                    let pay_index = self.rng.below(99);
                    lightningd.send_uncommitted(&[sql!(
                        "UPDATE vars SET intval=? WHERE name='last_pay_index'",
                        pay_index
                    )])?;
                }
                let back = *self.rng.pick(&[0, 1, 1, 2, 5]).context("some")?;
                lightningd.power_cut(back)?;
            }
        }
        Ok(())
    }

    fn step(&mut self, step: Step) -> Result<()> {
        let servers = self.several.servers.len();
        match step {
            Step::Live => self.live(),
            Step::LiveWithServerAway if servers > 1 => {
                let away = self.rng.index(servers);
                self.server(away)?.kill()?;
                self.live()?;
                self.server(away)?.restart()
            }
            Step::LiveWithServerAway => {
                self.server(0)?.kill()?;
                self.server(0)?.restart()?;
                self.live()
            }
            Step::KeepServer => {
                if let Some((at, _)) = self.kept.take() {
                    std::fs::remove_dir_all(self.place.path().join(format!("server-{at}")))?;
                }
                let at = self.rng.index(servers);
                let copy = self.place.path().join(format!("server-{at}"));
                self.server(at)?.keep(&copy)?;
                self.kept = Some((at, self.takeovers));
                Ok(())
            }
            Step::ServerGoesBack => self.server_goes_back(),
            Step::Copy => {
                let name = self.name("copy");
                let to = self.place.path().join(name);
                let copy = self.several.node.copied(&to)?;
                self.losers.push((copy, "is a copy"));
                self.losers()
            }
            Step::AdoptCopy => {
                let name = self.name("adopted");
                let to = self.place.path().join(name);
                let copy = self.several.node.copied(&to)?;
                let said = copy.command(&["adopt"])?;
                if said.status == Some(0) {
                    self.goes_to(copy);
                } else {
                    // Writes that nobody heard are in no backup.
                    ensure!(said.stderr.contains("newer than the backup"), "{said:?}");
                }
                self.live()
            }
            Step::Restore => {
                self.rest()?;
                let (from, name) = (self.rng.index(servers), self.name("restored"));
                self.several.check(from, &name)?;
                self.goes_to(self.several.node.at(&self.several.restored(&name))?);
                self.losers()
            }
            Step::Losers => self.losers(),
        }
    }

    /// Another directory is the node's from now on.
    fn goes_to(&mut self, new: Node) {
        let old = std::mem::replace(&mut self.several.node, new);
        self.losers.push((old, "took this node over"));
        self.takeovers += 1;
    }

    /// A short life that ends in order, with all servers at its end.
    fn rest(&mut self) -> Result<()> {
        let mut lightningd = self.start()?;
        let begun = Instant::now();
        while !self.is_level()? {
            ensure!(
                begun.elapsed() < PATIENCE,
                "a server stays behind\n{}",
                lightningd.plugin().says()
            );
            // Each look opens sessions, of which a server allows a node two in a second.
            std::thread::sleep(Duration::from_secs(1));
        }
        let (status, says) = lightningd.stop(0)?;
        ensure!(status == 0, "{says}");
        Ok(())
    }

    /// Whether all servers end in the same record.
    fn is_level(&self) -> Result<bool> {
        let status = self.several.node.command(&["status", "--json"])?;
        let status: serde_json::Value = serde_json::from_str(&status.stdout)?;
        let servers = status.get("servers").and_then(|servers| servers.as_array());
        let heads = servers
            .context("no servers")?
            .iter()
            .map(|server| server.pointer("/account/head"));
        let heads: Vec<_> = heads.collect();
        Ok(heads
            .iter()
            .all(|head| head.is_some() && Some(head) == heads.first()))
    }

    /// A server goes back to its older copy, while nothing else is wrong. Whoever put it there says so, or not: but where the
    /// node moved since, he must.
    fn server_goes_back(&mut self) -> Result<()> {
        let Some((at, takeovers)) = self.kept.take() else {
            return Ok(());
        };
        self.rest()?;
        let copy = self.place.path().join(format!("server-{at}"));
        let servers = self.several.servers.len();
        self.server(at)?.go_back(&copy)?;
        std::fs::remove_dir_all(copy)?;
        let is_marked = servers == 1 && takeovers != self.takeovers || self.rng.one_in(2);
        if is_marked {
            self.server(at)?.mark_restored()?;
        }
        if servers == 1 {
            self.do_as_told(is_marked)?;
        } else {
            // Two others hold what it lost.
            self.live()?;
            if is_marked {
                let (status, says) = self.start()?.stop(0)?;
                ensure!(status == 0, "{says}");
                self.several.node.command(&["adopt"])?.success()?;
            }
        }
        self.live()
    }

    /// The node does not start on less than was acknowledged; a person types what it says until it does.
    fn do_as_told(&mut self, is_marked: bool) -> Result<()> {
        let failed = self.several.start(1).err().context("it started on less")?;
        let word = last_word(&failed)?;
        let expected = if is_marked {
            "restored from a copy"
        } else {
            "lost data"
        };
        ensure!(word.contains(expected), "{word}");
        let said = type_it(&word)?;
        if said.status != Some(0) {
            ensure!(
                said.stderr.contains("backstop adopt --server-lost-records"),
                "{said:?}"
            );
            let lost = self.several.node.command(&["adopt", "--server-lost-records"])?;
            lost.success()?;
        }
        Ok(())
    }

    /// Nobody of them starts.
    fn losers(&mut self) -> Result<()> {
        for (node, with) in self.losers.iter().filter(|(_, with)| !with.is_empty()) {
            let mut options = self.several.options.clone();
            options.oracle = None;
            let failed = Lightningd::start(node, &options)
                .err()
                .context("a loser started")?;
            let word = last_word(&failed)?;
            ensure!(word.contains(with), "{with}: {word}");
        }
        Ok(())
    }
}

fn history(seed: u64, servers: usize) -> Result<()> {
    let mut history = History::new(seed, servers)?;
    let mut taken = Vec::new();
    for _ in 0..STEPS {
        let step = *history.rng.pick(&ALL).context("some")?;
        taken.push(step);
        history.step(step).with_context(|| format!("{taken:?}"))?;
    }
    history
        .step(Step::Restore)
        .with_context(|| format!("{taken:?}, and a restore"))?;
    let mut lightningd = history.start()?;
    lightningd.pay()?;
    lightningd.stop(0)?;
    let from = history.rng.index(servers);
    history.several.check(from, "at-the-end")?;
    Ok(())
}

#[test]
fn with_one_server_every_history_is_one_and_nothing_acknowledged_is_lost() -> Result<()> {
    many_seeds(BUDGET, |seed| history(500 + seed, 1))
}

#[test]
fn with_three_servers_every_history_is_one_and_nothing_acknowledged_is_lost() -> Result<()> {
    many_seeds(BUDGET, |seed| history(700 + seed, 3))
}
