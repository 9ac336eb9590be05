//! Several servers over one PostgreSQL database: real processes, clients that hop between them, and deaths.

use crate::{
    process::{Process, command_over, fails},
    support::{Client, Cluster, Node},
};
use backstop_protocol::{
    api::{self, Appended, SessionOpened, SnapshotInfo},
    id::RunId,
    problem::ProblemCode,
    record::record_hash,
    session::WriterClaim,
};
use std::{path::Path, process::Command};
use tempfile::TempDir;

/// Processes over one database and one directory.
struct Farm {
    dir: TempDir,
    url: String,
    processes: Vec<Process>,
}

impl Farm {
    fn start(processes: usize) -> Self {
        let cluster = Cluster::shared();
        let mut farm = Self {
            dir: tempfile::tempdir().unwrap(),
            url: cluster.url(&cluster.database()),
            processes: vec![],
        };
        for _ in 0..processes {
            let process = farm.process();
            farm.processes.push(process);
        }
        farm
    }

    fn data(&self) -> &Path {
        self.dir.path()
    }

    fn process(&self) -> Process {
        Process::start_over(self.data(), &self.url)
    }

    /// Kills one, as a power cut would, and starts another in its place.
    fn replace(&mut self, at: usize) {
        self.kill(at);
        self.processes[at] = self.process();
    }

    fn kill(&mut self, at: usize) {
        self.processes[at].child.kill().unwrap();
        self.processes[at].child.wait().unwrap();
    }

    /// Lets a client go on at another process, in the session it has.
    async fn hop(&self, client: &mut Client, to: usize) {
        client.connection = self.processes[to].place.connect().await;
    }
}

#[tokio::test]
async fn processes_over_one_database_are_one_server_to_those_who_hop_between_them() {
    let farm = Farm::start(3);
    let keys: Vec<_> = farm.processes.iter().map(|process| process.place.key).collect();
    assert!(keys.iter().all(|key| *key == keys[0]));
    let node = Node::new(1);
    let mut client = node.first(&farm.processes[0].place).await;
    let mut sent = Vec::new();
    for fill in 0..30 {
        farm.hop(&mut client, usize::from(fill) % 3).await;
        sent.push(client.append(fill).await);
    }
    client.put_pack(&[10, 11]).await;
    farm.hop(&mut client, 1).await;
    let commit = client.commit(1, None, &[10, 11], &[]);
    client.try_commit(&commit).await.json::<SnapshotInfo>();
    for at in 0..3 {
        farm.hop(&mut client, at).await;
        assert_eq!(client.log().await, sent);
        assert!(client.state().await.snapshot.is_some());
    }
}

#[tokio::test]
async fn of_two_writers_at_two_processes_one_writes_and_the_other_is_fenced_everywhere() {
    let farm = Farm::start(3);
    let node = Node::new(1);
    let mut writer = node.first(&farm.processes[0].place).await;
    writer.append(1).await;
    for epoch in 1..=12_u8 {
        // Two runs claim the same epoch at once, while the present writer goes on at the third.
        let claim = |run| WriterClaim {
            run: RunId([run; 16]),
            ..node.claim(epoch.into(), u64::from(epoch) + 1)
        };
        let (here, there) = (&farm.processes[1].place, &farm.processes[2].place);
        let late = writer.next(100 + epoch);
        let (mine, theirs, last) = tokio::join!(
            node.try_open(here, node.opening(here, claim(100 + epoch))),
            node.try_open(there, node.opening(there, claim(200 + epoch))),
            writer.try_append(&late),
        );
        let won = [&mine, &theirs].map(|answer| answer.status == 200);
        assert_ne!(won[0], won[1], "exactly one opens");
        let (won, run) = if won[0] {
            (mine, 100 + epoch)
        } else {
            (theirs, 200 + epoch)
        };
        let opened: SessionOpened = won.json();
        assert_eq!(opened.account.epoch, u64::from(epoch) + 1);
        if last.status == 200 {
            assert_eq!(opened.account.head.hash, record_hash(&late));
        } else {
            last.refused(ProblemCode::Fenced);
        }
        for at in 0..3 {
            farm.hop(&mut writer, at).await;
            writer.try_append(&late).await.refused(ProblemCode::Fenced);
        }
        let place = &farm.processes[usize::from(epoch) % 3].place;
        writer = node.open(place, node.opening(place, claim(run))).await;
        writer.append(epoch).await;
    }
    assert_eq!(writer.log().await.len() as u64, writer.state().await.head.seq);
}

#[tokio::test]
async fn whichever_process_dies_when_nothing_acknowledged_is_lost_and_there_is_one_chain() {
    let mut farm = Farm::start(3);
    let mut nodes = Vec::new();
    for node in 1..=4 {
        let client = Node::new(node).first(&farm.processes[0].place).await;
        nodes.push((client, Vec::<Vec<u8>>::new()));
    }
    for round in 0..12_u8 {
        let dying = usize::from(round) % 3;
        for (number, (client, sent)) in nodes.iter_mut().enumerate() {
            farm.hop(client, (usize::from(round) + number) % 3).await;
            for fill in 0..3 {
                sent.push(client.append(fill).await);
            }
            // One more is on its way to the process that dies: it is there or not, and may be sent again.
            farm.hop(client, dying).await;
            let last = client.next(200 + round);
            let (header, _) = client.authorize("POST", api::RECORDS, &last);
            let head = format!(
                "POST {} HTTP/1.1\r\nhost: t\r\nauthorization: {header}\r\ncontent-length: {}\r\n\r\n",
                api::RECORDS,
                last.len()
            );
            client.connection.send(&[head.as_bytes(), &last].concat()).await;
            sent.push(last);
        }
        farm.kill(dying);
        for (client, sent) in &mut nodes {
            farm.hop(client, (dying + 1) % 3).await;
            let last = sent.last().unwrap();
            let appended: Appended = client.try_append(last).await.json();
            assert_eq!(appended.head.hash, record_hash(last));
            client.head = appended.head;
        }
        farm.replace(dying);
    }
    for (client, sent) in &mut nodes {
        for at in 0..3 {
            farm.hop(client, at).await;
            assert_eq!(&client.log().await, sent);
        }
    }
}

#[tokio::test]
async fn a_roll_up_ordered_in_the_database_is_asked_for_by_every_process() {
    let farm = Farm::start(2);
    let node = Node::new(1);
    let mut client = node.first(&farm.processes[0].place).await;
    client.append(1).await;
    let rollup = |node: &Node| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstop-server"));
        command.args(["node", "rollup", &node.id().to_string(), "--database", &farm.url]);
        command
    };
    assert!(rollup(&node).output().unwrap().status.success());
    let said = fails(rollup(&Node::new(2)));
    assert!(said.contains("no node"), "{said}");
    for at in 0..2 {
        farm.hop(&mut client, at).await;
        assert!(client.state().await.roll_up);
    }
}

#[test]
fn a_database_that_cannot_be_used_is_said_with_what_to_do_and_without_its_password() {
    let farm = Farm::start(1);
    let elsewhere = tempfile::tempdir().unwrap();
    let said = fails(command_over(elsewhere.path(), &farm.url));
    assert!(said.contains("identity.key"), "{said}");
    let cluster = Cluster::start();
    let url = cluster.url(&cluster.database());
    cluster.set("fsync = off");
    cluster.control(&["restart"]);
    let dir = tempfile::tempdir().unwrap();
    let said = fails(command_over(dir.path(), &url));
    assert!(
        said.contains("fsync is off") && said.contains("postgresql.conf"),
        "{said}"
    );
    let url = url.replace("postgres@", "postgres:hunter2@");
    cluster.control(&["stop"]);
    let said = fails(command_over(dir.path(), &url));
    assert!(said.contains("PostgreSQL") && !said.contains("hunter2"), "{said}");
    let said = fails(command_over(dir.path(), "mysql://root:hunter2@host/name"));
    assert!(!said.contains("hunter2"), "{said}");
    assert!(said.contains("postgres://user@host"), "{said}");
}
