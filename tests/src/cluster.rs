//! A private PostgreSQL cluster, made from the installed binaries for one program and gone with it, however that ends.
//! It listens on a socket in its own directory and has nothing to do with what else runs on the machine. Where it does not
//! start, these functions panic: no test is skipped for that.

use nix::unistd::Uid;
use std::{
    ffi::{OsStr, OsString},
    fs,
    os::{fd::OwnedFd, unix::net::UnixStream, unix::process::CommandExt as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// Where Debian and Ubuntu put each version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// Enough for all tests of a program at once, small enough for any machine.
const SETTINGS: &str = "listen_addresses = ''
max_connections = 400
shared_buffers = '32MB'
logging_collector = off
";

/// A cluster that runs.
pub struct Cluster {
    bin: PathBuf,
    /// Where it lies, with its socket.
    pub dir: PathBuf,
    variables: Vec<(String, OsString)>,
    databases: AtomicU32,
    /// Ends the cluster when its input ends, which it does with this program.
    _guard: Child,
    /// That input: a socket, because a plugin takes a child with a pipe for another plugin.
    _alive: UnixStream,
}

/// The directory of the newest version's programs.
fn bin() -> PathBuf {
    let versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let number = |path: &PathBuf| {
        let name = path.parent()?.file_name()?.to_str()?;
        name.parse::<u32>().ok()
    };
    versions
        .map(|version| version.path().join("bin"))
        .filter(|bin| bin.join("initdb").is_file())
        .max_by_key(number)
        .unwrap_or_else(|| {
            panic!("PostgreSQL's initdb is not below {VERSIONS}: run `apt-get install postgresql`, or `cargo test-all`, which does")
        })
}

/// A program as a user that PostgreSQL does not refuse.
pub fn unprivileged(program: impl Into<PathBuf>) -> Command {
    let program: PathBuf = program.into();
    let mut command = if Uid::effective().is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir("/");
    command
}

fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl Cluster {
    /// The one that all tests of this program share, each in a database of its own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// One more, for a test that stops it or changes its settings.
    pub fn start() -> Self {
        Self::start_with("", [])
    }

    /// The same with more lines of configuration, and with variables in its environment.
    pub fn start_with<'v>(settings: &str, variables: impl IntoIterator<Item = (&'v str, &'v OsStr)>) -> Self {
        let variables = variables
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let bin = bin();
        let dir = PathBuf::from(output(unprivileged("mktemp").args(["-d", "-p", "/tmp"])));
        let script = "read -r _; \"$0/pg_ctl\" -s -D \"$1/data\" stop -m immediate; rm -rf \"$1\"";
        let (alive, theirs) = UnixStream::pair().unwrap();
        let guard = unprivileged("sh")
            .args(["-c", script])
            .args([&bin, &dir])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What interrupts the test must not interrupt the clearing up.
            .process_group(0)
            .spawn()
            .unwrap();
        let cluster = Self {
            bin,
            dir,
            variables,
            databases: AtomicU32::new(0),
            _guard: guard,
            _alive: alive,
        };
        let data = cluster.dir.join("data");
        let mut initdb = unprivileged(cluster.bin.join("initdb"));
        initdb.args([
            "--auth=trust",
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C",
            "-D",
        ]);
        output(initdb.arg(&data));
        cluster.set(SETTINGS);
        cluster.set(settings);
        cluster.set(&format!("unix_socket_directories = '{}'", cluster.dir.display()));
        cluster.control(&["start"]);
        cluster
    }

    /// Adds lines to the configuration, which the next start or reload reads.
    pub fn set(&self, lines: &str) {
        let file = self.dir.join("data/postgresql.conf");
        let found = fs::read_to_string(&file).unwrap();
        fs::write(file, format!("{found}\n{lines}\n")).unwrap();
    }

    /// `pg_ctl` and its arguments; returns when it is done.
    pub fn control(&self, args: &[&str]) {
        let mut command = unprivileged(self.bin.join("pg_ctl"));
        command.args(["-s", "-w"]).args(args);
        command.arg("-D").arg(self.dir.join("data"));
        command.arg("-l").arg(self.dir.join("log"));
        let status = command
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "pg_ctl {args:?}");
    }

    /// Runs statements as a superuser; answers what they print.
    pub fn sql(&self, database: &str, statements: &str) -> String {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.arg("-h")
            .arg(&self.dir)
            .args(["-U", "postgres", "-d", database]);
        output(psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statements]))
    }

    /// Makes an empty database; its name.
    pub fn database(&self) -> String {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("test{number}");
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    /// How a client names one of its databases.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://postgres@localhost/{database}?host={}",
            self.dir.display()
        )
    }
}
