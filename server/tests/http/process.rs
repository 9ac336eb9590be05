//! The program itself: what it prints, how it starts and refuses to, and what survives its death.

use crate::support::{Node, Place};
use backstop_protocol::{api, record::record_hash};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstop-server"));
    // Whatever this machine is set up for.
    command.env("BACKSTOP_SERVER_CONFIG", "/dev/null");
    command
}

pub(crate) fn command(data: &Path) -> Command {
    let mut command = program();
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(data);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The same over a PostgreSQL database.
pub(crate) fn command_over(data: &Path, url: &str) -> Command {
    let mut command = command(data);
    command.args(["--database", url]);
    command
}

/// The program, killed with the test.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) place: Place,
    pub(crate) greeting: String,
}

impl Process {
    pub(crate) fn start(data: &Path) -> Self {
        Self::run(command(data))
    }

    /// The same over a PostgreSQL database.
    pub(crate) fn start_over(data: &Path, url: &str) -> Self {
        Self::run(command_over(data, url))
    }

    /// Runs a command that prints a greeting.
    pub(crate) fn run(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut greeting = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        while !greeting.contains("nothing is lost") {
            assert_ne!(stdout.read_line(&mut greeting).unwrap(), 0, "{greeting}");
        }
        let after = |what| {
            let line = greeting.lines().find_map(|line| line.strip_prefix(what));
            line.unwrap_or_else(|| panic!("no line with {what:?} in {greeting}"))
        };
        let place = Place {
            addr: after("listening on ")
                .rsplit('/')
                .next()
                .unwrap()
                .parse()
                .unwrap(),
            key: after("server key ").parse().unwrap(),
        };
        Self {
            child,
            place,
            greeting,
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn fails(mut command: Command) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
    assert!(!status.success());
    let said = String::from_utf8(stderr).unwrap();
    let last = said.lines().last().unwrap().to_owned();
    assert!(last.starts_with("backstop-server: "), "{said}");
    last
}

#[test]
fn it_says_where_it_is_who_it_is_and_what_to_do_next() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("deep/data");
    let process = Process::start(&data);
    let greeting = &process.greeting;
    let next = format!("backstop setup --server http://{}", process.place.addr);
    assert!(greeting.contains(&next), "{greeting}");
    assert!(greeting.contains(data.to_str().unwrap()), "{greeting}");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join("identity.key")), 0o400);
    for file in ["backstop.sqlite3", "backstop.sqlite3-wal", "backstop.sqlite3-shm"] {
        assert_eq!(mode(&data.join(file)), 0o600, "{file}");
    }
}

#[test]
fn told_to_stop_it_stops_and_succeeds() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let dir = tempfile::tempdir().unwrap();
        let mut process = Process::start(dir.path());
        process.signal(signal);
        assert!(process.child.wait().unwrap().success());
        let mut said = String::new();
        process
            .child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert!(
            said.contains(signal.as_str()) && said.contains("stopped"),
            "{said}"
        );
    }
}

#[test]
fn a_second_server_over_the_same_data_is_told_to_choose_others() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Process::start(dir.path());
    let said = fails(command(dir.path()));
    assert!(
        said.contains("another backstop-server uses") && said.contains("--data DIR"),
        "{said}"
    );
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    for (flag, listen) in [("--listen", &addr), ("--metrics", &"127.0.0.1:0".to_owned())] {
        let mut command = program();
        command.args(["serve", "--listen", listen, "--metrics", &addr, "--data"]);
        command.arg(dir.path().join(flag));
        let said = fails(command);
        assert!(
            said.contains(&addr) && said.contains("another program") && said.contains(flag),
            "{said}"
        );
    }
}

#[test]
fn a_data_directory_that_cannot_be_used_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let said = fails(command(&file.join("data")));
    assert!(
        said.contains("file/data") && said.contains("--data DIR"),
        "{said}"
    );
    let said = fails(command(&file));
    assert!(said.contains("file") && said.contains("--data DIR"), "{said}");
    let damaged = dir.path().join("damaged");
    std::fs::create_dir(&damaged).unwrap();
    std::fs::write(
        damaged.join("backstop.sqlite3"),
        "not a database at all, but long enough",
    )
    .unwrap();
    let said = fails(command(&damaged));
    assert!(said.contains("backstop.sqlite3"), "{said}");
}

#[test]
fn an_identity_that_others_may_read_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    drop(Process::start(dir.path()));
    let key = dir.path().join("identity.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o444)).unwrap();
    let secret = std::fs::read_to_string(&key).unwrap();
    let said = fails(command(dir.path()));
    assert!(
        said.contains("chmod 0400") && !said.contains(secret.trim()),
        "{said}"
    );
}

#[tokio::test]
async fn killed_between_any_two_appends_it_has_all_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::new(1);
    let mut sent: Vec<Vec<u8>> = Vec::new();
    for epoch in 1..=8 {
        let mut process = Process::start(dir.path());
        let opening = node.opening(&process.place, node.claim(epoch - 1, epoch));
        let mut client = node.open(&process.place, opening).await;
        assert_eq!(client.log().await, sent);
        for fill in 0..7 {
            sent.push(client.append(fill).await);
        }
        // One more is on its way when the end comes: it is there or not, and may be sent again.
        let last = client.next(99);
        let (header, _) = client.authorize("POST", api::RECORDS, &last);
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: t\r\nauthorization: {header}\r\ncontent-length: {}\r\n\r\n",
            api::RECORDS,
            last.len()
        );
        client.connection.send(&[head.as_bytes(), &last].concat()).await;
        process.child.kill().unwrap();
        process.child.wait().unwrap();
        let process = Process::start(dir.path());
        client.connection = process.place.connect().await;
        let head = client.state().await.head;
        assert!(head == client.head || head.hash == record_hash(&last), "{head}");
        assert_eq!(client.try_append(&last).await.status, 200);
        sent.push(last);
        assert_eq!(client.log().await, sent);
    }
}
