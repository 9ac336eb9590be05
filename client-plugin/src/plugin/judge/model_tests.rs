//! Histories of one node in numbers, thousands of them: lives that end in every way, servers that go back, clones, takeovers.
//! The judgement is the real one; the model says of each start whether it must go on, and what must be on both sides then.

use super::*;
use backstop_protocol::id::RecordHash;
use proptest::prelude::*;

/// A database: the writes that it holds, in order; its version is their count.
type Database = Vec<u32>;

#[derive(Clone, Debug)]
enum Content {
    Policy,
    Batch(u32),
    /// With its snapshot, where that is complete.
    Gap(Option<Database>),
}

#[derive(Clone, Debug)]
struct Record {
    head: Head,
    run: RunId,
    content: Content,
}

#[derive(Clone, Debug, Default)]
struct Server {
    log: Vec<Record>,
    epoch: u64,
    /// The instance that may write.
    writer: Option<u8>,
}

impl Server {
    /// What a restore gives, where there is anything to restore.
    fn restored(&self) -> Option<Database> {
        let mut database = None;
        for record in &self.log {
            match &record.content {
                Content::Batch(write) => database.get_or_insert_with(Vec::new).push(*write),
                Content::Gap(Some(snapshot)) => database = Some(snapshot.clone()),
                Content::Policy | Content::Gap(None) => {}
            }
        }
        database
    }

    fn last(&self) -> Option<Last> {
        let newest = self.log.last()?;
        Some(Last {
            head: newest.head,
            run: newest.run,
            wrote: self
                .log
                .iter()
                .rev()
                .find(|record| !matches!(record.content, Content::Policy | Content::Gap(None)))
                .map_or(newest.run, |record| record.run),
            data_version: self.restored().map(|database| version(&database)),
            unbridged: matches!(newest.content, Content::Gap(None)),
        })
    }
}

/// A lightning-dir at rest.
#[derive(Clone, Debug, Default)]
struct Directory {
    instance: u8,
    database: Database,
    witness: Option<Witness>,
    runs: Vec<RunId>,
    clean: bool,
}

fn version(database: &Database) -> u64 {
    u64::try_from(database.len()).unwrap()
}

/// How a life ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// In order, and so many writes come after the plugin has left.
    Clean(u8),
    /// Killed, with a batch on its way that the server has, or not.
    Crash(bool),
    /// So many commits are undone, with a batch on its way that was acknowledged, or not.
    PowerCut(u8, bool),
    /// The plugin alone was killed, and lightningd wrote on.
    PluginGone(u8),
    /// Killed in the middle of a snapshot, if there was one to take.
    InSnapshot,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// So many batches, and whether the witness was written since the life began.
    Live(u8, End, bool),
    /// A restore elsewhere.
    Restore,
    /// A clone of the whole disk lives for a while.
    Clone(u8),
    /// The server goes back by so many records.
    GoBack(u8),
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        (0_u8..3).prop_map(End::Clean),
        any::<bool>().prop_map(End::Crash),
        (0_u8..4, any::<bool>()).prop_map(|(back, sent)| End::PowerCut(back, sent)),
        (0_u8..3).prop_map(End::PluginGone),
        Just(End::InSnapshot),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_u8..5, end(), any::<bool>()).prop_map(|(batches, end, seen)| Step::Live(batches, end, seen)),
        1 => Just(Step::Restore),
        1 => (1_u8..3).prop_map(Step::Clone),
        1 => (1_u8..9).prop_map(Step::GoBack),
    ]
}

#[derive(Default)]
struct World {
    server: Server,
    /// The node's directory.
    here: Directory,
    /// What the node acted on.
    acted: Database,
    made: u32,
    instances: u8,
}

const TIMELINE: TimelineId = TimelineId([1; 16]);

impl World {
    fn fresh(&mut self) -> u32 {
        self.made += 1;
        self.made
    }

    fn fresh_run(&mut self) -> RunId {
        let mut run = [0; 16];
        run[..4].copy_from_slice(&self.fresh().to_be_bytes());
        RunId(run)
    }

    fn append(&mut self, run: RunId, content: Content) {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&self.fresh().to_be_bytes());
        let head = Head {
            epoch: self.server.epoch,
            seq: self.server.log.last().map_or(0, |last| last.head.seq) + 1,
            hash: RecordHash(hash),
        };
        self.server.log.push(Record { head, run, content });
    }

    fn witness(&self) -> Option<Witness> {
        let last = self.server.last()?;
        Some(Witness::new(TIMELINE, last.head, last.data_version.unwrap_or(0)))
    }

    /// SPEC 8.4.
    fn roll_forward(&self, directory: &mut Directory) {
        let Some(last) = self.server.last() else { return };
        let fits = directory
            .witness
            .is_none_or(|witness| against_witness(&witness, TIMELINE, last.head).is_none());
        let database = version(&directory.database);
        let is_there = directory
            .witness
            .is_some_and(|witness| witness.data_version == database);
        if !(directory.clean && is_there)
            && fits
            && directory.runs.contains(&last.run)
            && let Some(backup) = self.server.restored()
            && backup.starts_with(&directory.database)
        {
            directory.database = backup;
        }
    }

    /// Everything up to the first batch of a run. Where the snapshot is cut off, the run ends there.
    fn start(&mut self, directory: &mut Directory, cut: bool) -> Result<Option<RunId>, Halt> {
        assert_eq!(
            self.server.writer.get_or_insert(directory.instance),
            &directory.instance
        );
        self.roll_forward(directory);
        self.server.epoch += 1;
        let judgement = judge(&Facts {
            database: version(&directory.database),
            database_is_new: directory.database.is_empty(),
            server: self.server.last().map(|last| (TIMELINE, last)),
            witness: directory.witness,
            runs: &directory.runs,
            due: None,
        });
        if let Judgement::Halt(halt) = judgement {
            return Err(halt);
        }
        let run = self.fresh_run();
        if directory.clean {
            directory.runs.drain(..directory.runs.len().saturating_sub(1));
        }
        directory.runs.push(run);
        directory.clean = false;
        if self.server.log.is_empty() {
            self.append(run, Content::Policy);
        }
        if matches!(judgement, Judgement::Snapshot(_)) {
            let snapshot = (!cut).then(|| directory.database.clone());
            self.append(run, Content::Gap(snapshot));
            if cut {
                return Ok(None);
            }
        }
        // I2, I5: what the backup gives is what the node is about to act on.
        assert_eq!(self.server.restored().unwrap_or_default(), directory.database);
        Ok(Some(run))
    }

    fn batch(&mut self, directory: &mut Directory, run: RunId) {
        let write = self.fresh();
        self.append(run, Content::Batch(write));
        directory.database.push(write);
    }

    fn live(&mut self, batches: u8, end: End, seen: bool) {
        let mut here = std::mem::take(&mut self.here);
        let begun = self.start(&mut here, matches!(end, End::InSnapshot));
        let begun = begun.unwrap_or_else(|halt| panic!("the model says go on: {halt:?}"));
        assert!(
            here.database.starts_with(&self.acted),
            "what was acted on is lost: {:?} of {:?}",
            here.database,
            self.acted
        );
        let Some(run) = begun else {
            self.here = here;
            return;
        };
        for _ in 0..batches {
            self.batch(&mut here, run);
            if seen {
                here.witness = self.witness();
            }
        }
        self.acted.clone_from(&here.database);
        match end {
            End::Clean(tail) => {
                here.witness = self.witness();
                here.clean = true;
                self.tail(&mut here, tail);
            }
            End::PluginGone(tail) => {
                self.tail(&mut here, tail);
                if tail > 0 && here.witness != self.witness() {
                    self.newer(&mut here);
                }
            }
            End::Crash(sent) | End::PowerCut(_, sent) => {
                if sent {
                    let write = self.fresh();
                    self.append(run, Content::Batch(write));
                }
                if let End::PowerCut(back, _) = end {
                    let kept = here.database.len() - usize::from(back.min(batches));
                    here.database.truncate(kept);
                }
            }
            End::InSnapshot => {}
        }
        self.here = here;
    }

    /// Writes that nobody hears.
    fn tail(&mut self, here: &mut Directory, writes: u8) {
        for _ in 0..writes {
            here.database.push(self.made + 1);
            self.made += 1;
        }
        self.acted.clone_from(&here.database);
    }

    /// The node halts, however often it is started, until a person says that this database is the one.
    fn newer(&mut self, here: &mut Directory) {
        for _ in 0..2 {
            let halt = self.start(here, false).err();
            assert!(matches!(halt, Some(Halt::Newer { .. })), "{halt:?}");
        }
        self.adopt_lost(here);
    }

    /// `adopt --server-lost-records`.
    fn adopt_lost(&mut self, here: &mut Directory) {
        self.instances += 1;
        here.instance = self.instances;
        self.server.writer = Some(here.instance);
        let lost = here.witness.map_or(0, |witness| witness.head.epoch);
        self.server.epoch = self.server.epoch.max(lost) + 1;
        here.witness = self.witness();
        (here.runs, here.clean) = (Vec::new(), true);
    }

    fn go_back(&mut self, by: u8) {
        // A server that loses what nobody saw acknowledged, with a machine that lost it too, is beyond any rule.
        self.live(1, End::Clean(0), true);
        let kept = self.server.log.len().saturating_sub(usize::from(by));
        self.server.log.truncate(kept);
        let mut here = std::mem::take(&mut self.here);
        for _ in 0..2 {
            let halt = self.start(&mut here, false).err();
            assert!(matches!(halt, Some(Halt::ServerLost { .. })), "{halt:?}");
        }
        self.adopt_lost(&mut here);
        self.here = here;
        self.live(1, End::Clean(0), true);
    }

    /// What the backup gives becomes the node's directory.
    fn take_over(&mut self) -> Directory {
        self.instances += 1;
        self.server.epoch += 1;
        self.server.writer = Some(self.instances);
        Directory {
            instance: self.instances,
            database: self.server.restored().unwrap_or_default(),
            witness: self.witness(),
            runs: Vec::new(),
            clean: true,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Live(batches, end, seen) => self.live(batches, end, seen),
            Step::Restore => {
                self.live(1, End::Clean(0), true);
                let new = self.take_over();
                assert_eq!(new.database, self.acted);
                self.here = new;
            }
            Step::Clone(batches) => {
                self.live(1, End::Clean(0), true);
                let here = self.here.clone();
                self.live(batches, End::Clean(0), true);
                let mut original = here;
                for _ in 0..2 {
                    let halt = self.start(&mut original, false).err();
                    assert!(matches!(halt, Some(Halt::UnknownWriter { .. })), "{halt:?}");
                }
                // The clone goes on as if nothing had been: its head is the one it saw.
                self.live(1, End::Clean(0), true);
                self.here = self.take_over();
            }
            Step::GoBack(by) => self.go_back(by),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_a_node_goes_on_with_what_it_acted_on_or_halts_as_the_model_says(
        steps in proptest::collection::vec(step(), 1..24),
    ) {
        let mut world = World::default();
        for step in steps {
            world.step(step);
        }
        world.live(1, End::Clean(0), true);
        prop_assert_eq!(world.server.restored().unwrap(), world.acted);
    }
}
