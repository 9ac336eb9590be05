//! A model: servers that come and go at any step, writers that die at any step, takeovers between them.

use super::{
    testing::{Fake, FakeSession},
    *,
};
use crate::{
    random::SharedRng, record::Require, remote::RemoteError, restore::BackupServer as _,
    snapshot::testing::TestRng,
};
use backstop_protocol::{
    head::Head,
    id::{InstanceId, RecordHash, RunId, TimelineId},
    problem::ProblemCode,
    record::{RECORD_MIN, RecordHeader, RecordKind, record_hash},
};
use bytes::Bytes;
use proptest::prelude::*;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// How long the model waits for what cannot come.
const NEVER: Duration = Duration::from_millis(4);

struct World {
    servers: Vec<Fake>,
    rule: Rule,
    /// What was acknowledged, in order.
    acknowledged: Vec<RecordHash>,
    /// The records that the database of the machine that writes was built of.
    database: Vec<RecordHash>,
    /// The machine that may write.
    instance: u8,
    /// The epochs at which each machine took over.
    taken_at: Vec<u64>,
    runs: u8,
    rng: SharedRng,
}

/// An open writer.
struct Life {
    several: Several<Fake>,
    epoch: u64,
    head: Head,
}

impl World {
    fn new(count: usize, require: Require) -> Self {
        let servers = vec![(); count].into_iter().map(|()| Fake::default()).collect();
        Self {
            servers,
            rule: Rule::new(require, count),
            acknowledged: Vec::new(),
            database: Vec::new(),
            instance: 1,
            taken_at: vec![0, 0],
            runs: 0,
            rng: SharedRng::new(TestRng::new(7)),
        }
    }

    fn set_up(&self, up: u8) {
        for (at, server) in self.servers.iter().enumerate() {
            server.held().up = up & (1 << at) != 0;
        }
    }

    /// How many servers answer.
    fn up(&self) -> usize {
        self.servers.iter().filter(|server| server.held().up).count()
    }

    fn who(&mut self, instance: u8, takeover: bool) -> Who {
        self.runs += 1;
        Who {
            instance: InstanceId([instance; 16]),
            run: RunId([self.runs; 16]),
            takeover,
            taken_at: self
                .taken_at
                .get(usize::from(instance))
                .copied()
                .unwrap_or_default(),
        }
    }

    /// A person says that this machine is the one.
    async fn adopt(&mut self) {
        let who = self.who(self.instance, true);
        let taken = Takeover::begin(&self.servers, who, self.rule.to_take_over(), 0)
            .await
            .unwrap();
        self.taken_at[usize::from(self.instance)] = taken.epoch();
    }

    async fn open(&mut self, instance: u8) -> Result<Life, RemoteError> {
        let who = self.who(instance, false);
        let claimed = claim(&self.servers, who, self.rule.needed, 0).await?;
        let epoch = claimed.epoch;
        let around = Around {
            pace: Pace {
                first: Duration::from_micros(100),
                longest: Duration::from_millis(1),
                ask_every: Duration::from_millis(5),
            },
            rng: self.rng.clone(),
            tell: Arc::new(|_| {}),
        };
        let (several, ended) = Several::open(&self.servers, who, self.rule, claimed, &around).await?;
        assert!(ended.whole);
        Ok(Life {
            several,
            epoch,
            head: ended.account.head,
        })
    }

    /// A start: what was found and nobody here saw acknowledged is confirmed by a record of this run before the database is brought
    /// forward by it. `None` where that does not come about.
    async fn start(&mut self) -> Option<Life> {
        let mut life = self.open(self.instance).await.ok()?;
        let head = life.head;
        if !head.is_empty() && self.database.last() != Some(&head.hash) && !self.append(&mut life).await {
            return None;
        }
        let log = self.servers.iter().find_map(|server| {
            let there = server.held();
            (there.head() == life.head).then(|| there.log.iter().map(|sealed| record_hash(sealed)).collect())
        });
        let log: Vec<_> = log.unwrap();
        assert!(
            log.starts_with(&self.database),
            "the database was brought forward by a record that another one took the place of"
        );
        self.database = log;
        Some(life)
    }

    /// One batch. `true`: it was acknowledged.
    async fn append(&mut self, life: &mut Life) -> bool {
        let header = RecordHeader {
            kind: RecordKind::Batch,
            timeline: TimelineId([1; 16]),
            epoch: life.epoch,
            seq: life.head.seq + 1,
            prev: life.head.hash,
            nonce: self.rng.array(),
        };
        let mut sealed = header.encode();
        sealed.resize(RECORD_MIN, 0);
        let hash = record_hash(&sealed);
        let head = header.head(hash);
        life.several.send(&Record {
            head,
            prev: header.prev,
            sealed: Bytes::from(sealed),
        });
        let mut reached = Box::pin(life.several.reached(head));
        // Where enough servers are up it does come, however long a busy machine takes.
        for _ in 0..2000 {
            match timeout(NEVER, &mut reached).await {
                Ok(Ok(())) => {
                    drop(reached);
                    self.acknowledged.push(hash);
                    if self.database.last() == Some(&header.prev) {
                        self.database.push(hash);
                    }
                    life.head = head;
                    return true;
                }
                Ok(Err(refusal)) => {
                    assert_eq!(refusal.code(), Some(ProblemCode::Fenced));
                    return false;
                }
                Err(_) if self.up() < self.rule.needed => return false,
                Err(_) => {}
            }
        }
        panic!("enough servers are up, and it never came");
    }

    /// Whichever servers a restore finds, if they are enough: the newest of their heads holds everything that was acknowledged.
    fn check(&self) {
        for found in 0_u32..1 << self.servers.len() {
            if found.count_ones() as usize != self.rule.to_take_over() {
                continue;
            }
            let newest = self
                .servers
                .iter()
                .enumerate()
                .filter(|(at, _)| found & (1 << at) != 0)
                .map(|(_, server)| {
                    let held = server.held();
                    (held.head(), held.log.clone())
                })
                .max_by(|(one, _), (other, _)| one.cmp_place(other));
            let (_, log) = newest.unwrap();
            let held: Vec<_> = log.iter().map(|sealed| record_hash(sealed)).collect();
            // One history: in this order, each once, though others may stand between that were never acknowledged.
            let mut rest = held.iter();
            for acknowledged in &self.acknowledged {
                assert!(
                    rest.any(|hash| hash == acknowledged),
                    "an acknowledged record is gone"
                );
            }
            for (one, next) in log.iter().zip(log.iter().skip(1)) {
                assert_eq!(RecordHeader::parse(next).unwrap().prev, record_hash(one));
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Which servers answer from now on.
    Up(u8),
    /// A server dies while it answers one of the next appends.
    Dies(usize, u32),
    /// The writer is killed, and starts again.
    Restart,
    /// So many batches.
    Append(u8),
    /// Another machine takes over.
    TakeOver,
    /// The machine that was taken over starts again.
    OldMachine,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<u8>().prop_map(Step::Up),
        2 => Just(Step::Up(0xff)),
        2 => (0_usize..5, 0_u32..3).prop_map(|(at, after)| Step::Dies(at, after)),
        3 => Just(Step::Restart),
        4 => (1_u8..4).prop_map(Step::Append),
        1 => Just(Step::TakeOver),
        1 => Just(Step::OldMachine),
    ]
}

async fn live(count: usize, require: Require, steps: Vec<Step>) {
    let mut world = World::new(count, require);
    world.set_up(0xff);
    let mut life = world.start().await;
    for step in steps {
        match step {
            Step::Up(up) => world.set_up(up),
            Step::Dies(at, after) => {
                if let Some(server) = world.servers.get(at) {
                    server.held().dies_after = Some(after);
                }
            }
            Step::Restart => {
                drop(life.take());
                life = world.start().await;
            }
            Step::Append(batches) => {
                for _ in 0..batches {
                    let Some(mut writer) = life.take() else { break };
                    // A batch that is not acknowledged is the run's last.
                    if world.append(&mut writer).await {
                        life = Some(writer);
                    }
                }
            }
            Step::TakeOver => {
                let who = world.who(world.instance + 1, true);
                let taken = Takeover::begin(&world.servers, who, world.rule.to_take_over(), 0).await;
                let Ok(taken) = taken else { continue };
                if taken.confirm().await.is_err() {
                    continue;
                }
                // What it found is what a restore puts in place: all of it.
                let head = taken.heads().next().unwrap().1;
                world.instance += 1;
                // Its database is made of the backup, and judged against it at its first start.
                world.database.clear();
                world.taken_at.push(taken.epoch());
                if let Some(mut old) = life.take() {
                    let before = world.acknowledged.len();
                    world.set_up(0xff);
                    assert!(!world.append(&mut old).await, "the old machine went on");
                    assert_eq!(world.acknowledged.len(), before);
                }
                assert!(head.seq >= u64::try_from(world.acknowledged.len()).unwrap());
            }
            Step::OldMachine if world.instance > 1 => {
                let old = world.instance - 1;
                if world.open(old).await.is_ok() {
                    // Two takeovers that knew nothing of each other, before either machine wrote: the greater epoch decides.
                    let taken_at = |instance: u8| world.taken_at[usize::from(instance)];
                    assert!(
                        taken_at(old) > taken_at(world.instance),
                        "the old machine was let in"
                    );
                    return world.check();
                }
            }
            Step::OldMachine => {}
        }
        world.check();
    }
    // Everything comes back: one more batch reaches all, whatever never counted at some of them.
    world.set_up(0xff);
    for server in &world.servers {
        server.held().dies_after = None;
    }
    drop(life);
    if world.up() >= world.rule.needed {
        let writer = world.open(world.instance).await;
        let mut writer = match writer {
            Ok(writer) => writer,
            // Two takeovers at the same epoch: a person decides.
            Err(refusal) => {
                assert_eq!(refusal.code(), Some(ProblemCode::OtherInstance));
                world.adopt().await;
                world.open(world.instance).await.unwrap()
            }
        };
        assert!(world.append(&mut writer).await);
        for _ in 0..5000 {
            if world
                .servers
                .iter()
                .all(|server| server.held().head() == writer.head)
            {
                return world.check();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("a server is left behind for good");
    }
    world.check();
}

fn run(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.unwrap().block_on(work);
}

proptest! {
    #![proptest_config(ProptestConfig { ..ProptestConfig::default() })]
    #[test]
    fn whatever_fails_what_was_acknowledged_is_found_by_every_restore_and_there_is_one_history(
        count in 2_usize..6, all in any::<bool>(), steps in proptest::collection::vec(step(), 1..30),
    ) {
        run(live(count, if all { Require::All } else { Require::Majority }, steps));
    }
}

#[test]
fn a_server_that_was_away_is_caught_up_without_another_batch() {
    run(async {
        let mut world = World::new(3, Require::Majority);
        world.set_up(0xff);
        let mut life = world.open(1).await.unwrap();
        assert!(world.append(&mut life).await);
        world.set_up(0b011);
        for _ in 0..5 {
            assert!(world.append(&mut life).await);
        }
        assert_eq!(world.servers[2].held().log.len(), 1);
        world.set_up(0xff);
        while world.servers[2].held().head() != life.head {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(world.servers[2].held().log, world.servers[0].held().log);
    });
}

#[test]
fn an_opening_that_finds_too_few_servers_raises_no_epoch() {
    run(async {
        let mut world = World::new(3, Require::Majority);
        world.set_up(0xff);
        drop(world.open(1).await.unwrap());
        let epoch = world.servers[0].held().writer.unwrap().epoch;
        world.set_up(0b001);
        assert!(world.open(1).await.is_err());
        assert_eq!(world.servers[0].held().writer.unwrap().epoch, epoch);
    });
}

#[test]
fn a_server_that_missed_a_takeover_is_taken_along_and_one_that_did_not_halts_the_old_machine() {
    run(async {
        let mut world = World::new(3, Require::Majority);
        world.set_up(0xff);
        drop(world.open(1).await.unwrap());
        world.set_up(0b110);
        let who = world.who(2, true);
        Takeover::begin(&world.servers, who, 2, 0).await.unwrap();
        world.set_up(0xff);
        let before = world.servers[0].held().writer;
        let refused = world.open(1).await.err().unwrap();
        assert_eq!(refused.code(), Some(ProblemCode::OtherInstance));
        assert_eq!(
            world.servers[0].held().writer,
            before,
            "the old machine raises nothing"
        );
        let life = world.open(2).await.unwrap();
        for server in &world.servers {
            assert_eq!(server.held().writer.unwrap().epoch, life.epoch);
        }
    });
}

#[test]
fn an_idle_writer_hears_of_a_takeover_without_another_batch() {
    run(async {
        let mut world = World::new(3, Require::Majority);
        world.set_up(0xff);
        let mut life = world.start().await.unwrap();
        assert!(world.append(&mut life).await);
        let who = world.who(2, true);
        world.set_up(0b110);
        Takeover::begin(&world.servers, who, 2, 0).await.unwrap();
        assert_eq!(life.several.fence().await.code(), Some(ProblemCode::Fenced));
    });
}

#[test]
fn a_takeover_of_one_of_two_servers_lets_the_new_machine_in_at_both_and_the_old_one_at_none() {
    run(async {
        let mut world = World::new(2, Require::All);
        world.set_up(0xff);
        drop(world.open(1).await.unwrap());
        world.set_up(0b01);
        world.instance = 2;
        world.taken_at.push(0);
        world.adopt().await;
        world.set_up(0xff);
        assert!(world.open(1).await.is_err());
        let mut life = world.open(2).await.unwrap();
        assert!(world.append(&mut life).await);
    });
}

#[test]
fn a_last_record_that_never_counted_is_replaced_by_the_one_that_did() {
    run(async {
        let mut world = World::new(3, Require::Majority);
        world.set_up(0xff);
        let mut life = world.open(1).await.unwrap();
        assert!(world.append(&mut life).await);
        world.set_up(0b100);
        assert!(!world.append(&mut life).await);
        let lost = world.servers[2].held().head();
        assert_eq!(lost.seq, 2);
        drop(life);
        world.set_up(0b011);
        let mut life = world.open(1).await.unwrap();
        assert!(world.append(&mut life).await);
        world.set_up(0xff);
        while world.servers[2].held().head() != life.head {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(life.head.cmp_place(&lost).is_gt());
    });
}

#[test]
fn two_runs_that_ended_in_a_batch_at_one_server_each_leave_none_behind() {
    run(async {
        let mut world = World::new(3, Require::Majority);
        world.set_up(0xff);
        let mut life = world.start().await.unwrap();
        assert!(world.append(&mut life).await);
        // One reaches the first server alone, the other, of a later run that saw nothing of it, the second.
        world.set_up(0b001);
        assert!(!world.append(&mut life).await);
        drop(life);
        world.set_up(0b110);
        let mut life = world.start().await.unwrap();
        world.set_up(0b010);
        assert!(!world.append(&mut life).await);
        drop(life);
        let lost = world.servers[1].held().head();
        // The older one is found first, and is on the chain from then on.
        world.set_up(0b101);
        let mut life = world.start().await.unwrap();
        drop(life);
        world.set_up(0b011);
        life = world.start().await.unwrap();
        assert!(world.append(&mut life).await);
        world.set_up(0xff);
        while !world
            .servers
            .iter()
            .all(|server| server.held().head() == life.head)
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(world.servers[1].held().log, world.servers[0].held().log);
        assert!(life.head.cmp_place(&lost).is_gt());
        world.check();
    });
}

#[test]
fn a_server_that_lost_everything_begins_again_where_the_others_have_it() {
    run(async {
        let mut world = World::new(3, Require::Majority);
        world.set_up(0xff);
        let mut life = world.start().await.unwrap();
        for _ in 0..5 {
            assert!(world.append(&mut life).await);
        }
        drop(life);
        {
            let mut lost = world.servers[1].held();
            lost.log.clear();
            lost.writer = None;
        }
        let mut life = world.start().await.unwrap();
        assert!(world.append(&mut life).await);
        while world.servers[1].held().head() != life.head {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(world.servers[1].held().log, world.servers[0].held().log);
    });
}

#[test]
fn a_server_that_holds_another_history_is_left_as_it_is() {
    run(async {
        let mut world = World::new(2, Require::All);
        world.set_up(0xff);
        let mut life = world.open(1).await.unwrap();
        assert!(world.append(&mut life).await);
        let (session, account) = world.servers[0].open(None).await.unwrap();
        let elsewhere = backstop_protocol::api::AccountState {
            timeline: Some(TimelineId([9; 16])),
            head: Head::EMPTY,
            ..account
        };
        let copied = bring::<FakeSession>(&session, &elsewhere, &session, life.head, ("a", "b")).await;
        assert!(matches!(copied, Err(CopyError::OtherHistory { .. })));
        session.account().await.unwrap();
    });
}
