//! Settings of the program itself: where they come from, what is wrong with them, and which can change while it runs.

use crate::{
    process::{Process, command, fails, program},
    support::plain_get,
    tls,
};
use backstop_protocol::api;
use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::Signal,
};
use std::{
    fs::{self, Permissions},
    io::{BufRead as _, BufReader},
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::{Path, PathBuf},
    process::{ChildStderr, Command, Output, Stdio},
    time::Duration,
};
use tokio::time::Instant;

/// The program with a configuration file of this text, and what stands before everything else.
fn with_file(dir: &Path, text: &str) -> (Command, PathBuf) {
    let file = dir.join("config.toml");
    fs::write(&file, text).unwrap();
    let mut command = program();
    command
        .env_remove("BACKSTOP_SERVER_CONFIG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    (command, file)
}

/// Waits for a line of the log that holds this.
fn hear(log: &mut BufReader<ChildStderr>, what: &str) -> String {
    let mut line = String::new();
    while !line.contains(what) {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "{what} was not logged");
    }
    line
}

fn output(mut command: Command) -> (i32, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let said = [stdout, stderr].concat();
    (status.code().unwrap(), String::from_utf8(said).unwrap())
}

#[test]
fn a_flag_counts_before_the_environment_and_that_before_the_file_and_that_before_the_default() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    let text = format!("listen = '127.0.0.1:0'\ndata = '{}'\n", place("file").display());
    let said = |arguments: &[&str], environment: &[(&str, &Path)], text: &str| {
        let (mut command, file) = with_file(dir.path(), text);
        command
            .arg("serve")
            .args(arguments)
            .arg("--config")
            .arg(file)
            .env("XDG_DATA_HOME", place("home"))
            .envs(environment.iter().copied());
        let greeting = &Process::run(command).greeting;
        let line = greeting.lines().find_map(|line| line.strip_prefix("data in "));
        line.unwrap().to_owned()
    };
    let flag = place("flag");
    let flags = ["--data", flag.to_str().unwrap()];
    let environment = [("BACKSTOP_SERVER_DATA", place("environment"))];
    let environment = environment.each_ref().map(|(name, path)| (*name, path.as_path()));
    let at = |name: &str| place(name).to_str().unwrap().to_owned();
    assert_eq!(said(&flags, &environment, &text), at("flag"));
    assert_eq!(said(&[], &environment, &text), at("environment"));
    assert_eq!(said(&[], &[], &text), at("file"));
    assert_eq!(
        said(&[], &[], "listen = '127.0.0.1:0'"),
        at("home/backstop-server")
    );
}

#[test]
fn the_file_may_be_named_by_the_environment_and_counts_for_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (mut command, file) = with_file(dir.path(), &format!("data = '{}'", data.display()));
    command
        .args(["node", "rollup", &format!("02{}", "11".repeat(32))])
        .env("BACKSTOP_SERVER_CONFIG", &file);
    let said = fails(command);
    assert!(said.contains(data.to_str().unwrap()), "{said}");
}

#[test]
fn what_is_wrong_stops_the_start_and_the_check_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let files = tls::files(dir.path());
    tls::write(&files);
    fs::set_permissions(&files.key, Permissions::from_mode(0o444)).unwrap();
    let exposed = format!(
        "tls-cert = '{}'\ntls-key = '{}'",
        files.cert.display(),
        files.key.display()
    );
    for (text, told) in [
        (
            "# all is well\nlisten = '127.0.0.1:0'\nlissten = 1",
            "config.toml, line 3: lissten is no setting",
        ),
        (
            "idle-timeout = '5'",
            "config.toml, line 1: idle-timeout = \"5\": not a time",
        ),
        ("listen = '0.0.0.0:0'", "--plain-http"),
        ("tls-cert = 'x'", "--tls-cert needs --tls-key FILE"),
        (&exposed, "chmod 0400"),
    ] {
        for name in ["serve", "check-config"] {
            let (mut command, file) = with_file(dir.path(), text);
            command.arg(name).arg("--config").arg(file);
            command.arg("--data").arg(dir.path().join("data"));
            let said = fails(command);
            assert!(said.contains(told), "{said}");
        }
    }
    assert!(!dir.path().join("data").exists());
    let (mut command, _) = with_file(dir.path(), "");
    command.args(["serve", "--config", "/nowhere/config.toml"]);
    let said = fails(command);
    assert!(
        said.contains("/nowhere/config.toml") && said.contains("--config FILE"),
        "{said}"
    );
}

#[test]
fn the_check_succeeds_or_exits_with_1_whatever_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let check = |text: &str, flags: &[&str], variable: (&str, &str)| {
        let (mut command, file) = with_file(dir.path(), text);
        command.arg("check-config").arg("--config").arg(&file).args(flags);
        output(command_with(command, variable))
    };
    let none = ("UNRELATED", "1");
    let (code, said) = check("listen = '127.0.0.1:0'", &[], none);
    assert_eq!((code, said.contains("ok: ")), (0, true), "{said}");
    assert_eq!(check("moon = 1", &[], none).0, 1);
    assert_eq!(check("", &["--roll-up-age=x"], none).0, 1);
    let (code, said) = check("", &[], ("BACKSTOP_SERVER_ROLL_UP_AGE", "x"));
    assert_eq!(code, 1);
    assert!(
        said.contains("--roll-up-age") && said.contains("write it like 12h"),
        "{said}"
    );
}

fn command_with(mut command: Command, (name, value): (&str, &str)) -> Command {
    command.env(name, value);
    command
}

#[test]
fn the_default_configuration_is_one_that_the_check_accepts() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = program();
    command.arg("default-config");
    let (code, text) = output(command);
    assert_eq!(code, 0);
    let (mut command, file) = with_file(dir.path(), &text);
    command.arg("check-config").arg("--config").arg(file);
    assert_eq!(output(command).0, 0);
}

#[tokio::test]
async fn a_hangup_reads_what_can_change_and_names_what_needs_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let files = tls::files(dir.path());
    let first = tls::write(&files);
    let text = |log: &str, idle: &str| {
        format!(
            "listen = '127.0.0.1:0'\ndata = '{}'\ntls-cert = '{}'\ntls-key = '{}'\nlog = '{log}'\nidle-timeout = '{idle}'\n",
            dir.path().join("data").display(),
            files.cert.display(),
            files.key.display()
        )
    };
    let (mut command, file) = with_file(dir.path(), &text("info", "6m"));
    command.arg("serve").arg("--config").arg(&file);
    let mut process = Process::run(command);
    assert!(process.greeting.contains("listening on https://"));
    let mut log = BufReader::new(process.child.stderr.take().unwrap());
    let addr = process.place.addr;
    assert!(tls::connect(addr, &first, &[]).await.is_ok());

    let second = tls::write(&files);
    fs::write(&file, text("debug", "7m")).unwrap();
    process.signal(Signal::SIGHUP);
    hear(&mut log, "filter is debug now");
    let line = hear(&mut log, "restart the server");
    assert!(line.contains(" of idle-timeout;"), "{line}");
    hear(&mut log, "certificate was read again");
    let stream = tls::connect(addr, &second, &[]).await.unwrap();
    crate::support::Connection::over(stream)
        .request("GET", api::HEALTH, &[], b"")
        .await;
    let line = hear(&mut log, "answered");
    assert!(line.contains("client=127.0.0.1"), "{line}");

    // What is wrong leaves everything as it is.
    fs::write(&file, "moon = 1").unwrap();
    fs::write(&files.cert, "no certificate").unwrap();
    process.signal(Signal::SIGHUP);
    hear(&mut log, "line 1: moon is no setting");
    hear(&mut log, "old certificate stays in use");
    assert!(tls::connect(addr, &second, &[]).await.is_ok());
}

#[test]
fn systemd_hears_when_the_server_is_ready_alive_reloading_and_stopping() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let listener = UnixDatagram::bind(&path).unwrap();
    listener.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let next = || {
        let mut buffer = [0; 64];
        let len = listener.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    };
    let wait_for = |word: &str| while next() != word {};
    let mut server = command(&dir.path().join("data"));
    server.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    let mut process = Process::run(server);
    assert_eq!(next(), "READY=1");
    wait_for("WATCHDOG=1");
    wait_for("WATCHDOG=1");
    process.signal(Signal::SIGHUP);
    wait_for("RELOADING=1");
    wait_for("READY=1");
    process.signal(Signal::SIGTERM);
    wait_for("STOPPING=1");
    assert!(process.child.wait().unwrap().success());
}

/// Kibibytes of memory that a process has.
fn memory(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

#[tokio::test]
async fn ten_thousand_idle_connections_cost_little_and_hold_up_nobody() {
    const WANTED: u64 = 10_000;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    // Fewer where this machine allows no more: the server needs some for itself.
    let count = WANTED.min(hard.saturating_sub(600));
    let dir = tempfile::tempdir().unwrap();
    let mut server = command(dir.path());
    // As many clients are many addresses, each with a limit of its own.
    server.args(["--metrics", "127.0.0.1:0", "--anonymous-rate", "1000000"]);
    let process = Process::run(server);
    let metrics = process.greeting.lines().find_map(|line| {
        let url = line.strip_prefix("metrics on http://")?;
        url.strip_suffix("/metrics")
    });
    let metrics = metrics.unwrap().parse().unwrap();
    let before = memory(&process);
    let mut open = Vec::new();
    for _ in 0..count {
        let mut connection = process.place.connect().await;
        connection.request("GET", api::INFO, &[], b"").await;
        open.push(connection);
    }
    let each = 1024 * memory(&process).saturating_sub(before) / count;
    println!("{count} idle connections: {each} bytes each");
    assert!(each <= 32 << 10, "{each} bytes each");
    let began = Instant::now();
    process.place.request("GET", api::HEALTH, b"").await;
    assert!(began.elapsed() < Duration::from_secs(5));
    let (_, text) = plain_get(metrics, "/metrics").await;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("backstop_connections_open "));
    // The one of a moment ago may not have ended yet.
    let counted: u64 = line.unwrap().parse().unwrap();
    assert!((count..=count + 1).contains(&counted), "{counted}");
}
