//! What the documents tell people to type: every line of every block of console input is typed here, in the order of its page, at real
//! programs with a real server and a node's directory; or, where it cannot be, it is read by the real command line and stands in a list
//! that says why.
//!
//! A page begins with a server and a node of its own. The paths, the URL and the network of the documents stand for those of the
//! test. After `backstop setup` the node lives for a while, after `backstop restore` it goes on in the new directory.

use anyhow::{Context, Result, bail, ensure};
use backstop_protocol::clock::{Clock as _, SystemClock};
use backstop_tests::{binaries, lightningd, node::Node, plugin::Program, servers::Server, signer::Signer};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};
use tempfile::TempDir;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Commands of ours that are not obeyed here but read by the real command line, and why.
const READ_ALONE: &[(&str, &str)] = &[
    (
        "backstop setup --server https://a.example --server https://b.example --server https://c.example --require majority --network bitcoin",
        "three servers: tests/several_servers.rs",
    ),
    (
        "backstop server replace https://a.example https://d.example --network bitcoin",
        "as above: tests/server_changes.rs",
    ),
    (
        "backstop server add https://e.example --network bitcoin",
        "as above",
    ),
    (
        "backstop server remove https://b.example --network bitcoin",
        "as above",
    ),
    (
        "backstop server require all --network bitcoin",
        "as above: one server has no other rule",
    ),
    (
        "backstop-server copy --data /var/lib/backstop-server --to-database 'postgres://backstop@db.example.org/backstop?sslmode=verify-full' --to-packs s3://my-bucket/backstop",
        "no such database or bucket: tests/moving.rs moves a server to real ones",
    ),
    (
        "backstop-server copy --data /var/lib/backstop-server --abandon",
        "nothing is handed over here: the server's tests of moving break one off",
    ),
    (
        "backstop import --network bitcoin --backup-py /mnt/backup/lightningd.bkp",
        "no file of backup.py is here: the client's tests of import have some",
    ),
    (
        "backstop-server invite revoke 1f2e3d4c",
        "no invitation has that id here: server/tests revoke real ones",
    ),
    (
        "backstop-server serve --data /srv/backstop --database 'postgres://backstop@db.example.org/backstop?sslmode=verify-full'",
        "no such database: server/tests serve over PostgreSQL",
    ),
    (
        "backstop-server serve --packs s3://my-bucket/backstop --packs-endpoint https://s3.example.org",
        "no such bucket: server/tests serve over one",
    ),
    (
        "backstop restore --server http://127.0.0.1:8750 --to /new/lightning-dir --network bitcoin --hsm-secret /path/to/hsm_secret",
        "the page's first command restored already: every test of restore types it",
    ),
    (
        "backstop restore --server http://127.0.0.1:8750 --to /new/lightning-dir --network bitcoin --recovery-key",
        "as above: tests/mirror.rs types the recovery key",
    ),
    (
        "backstop restore --mirror /srv/mirror --old-node-is-off --to /new/lightning-dir --network bitcoin --recovery-key",
        "needs a mirror: tests/mirror.rs",
    ),
    (
        "backstop restore --server http://127.0.0.1:8750 --to /new/lightning-dir --network bitcoin --mnemonic --scb-only",
        "as above: the client's tests of restore do it",
    ),
];

/// Programs of others that the documents name, and why they are not run here.
const OTHERS: &[(&str, &str)] = &[
    (
        "apt-get",
        "would change this system; tests/packaging.rs installs the packages elsewhere",
    ),
    (
        "docker",
        "no container engine; tests/deployment.rs reads its files",
    ),
    ("export", "the shell's"),
    ("install", "would change this system"),
    ("journalctl", "no systemd runs here"),
    ("lightning-cli", "no Core Lightning runs here"),
    (
        "ln",
        "would change this system; tests/companion.rs starts the companion",
    ),
    ("mkdir", "would change this system"),
    ("reckless", "tests/packaging.rs tries it"),
    ("systemctl", "no systemd runs here"),
    ("useradd", "would change this system"),
];

/// A line of a block, and where it stands.
#[derive(Debug)]
struct Line {
    page: String,
    number: usize,
    text: String,
}

/// Every page that people read.
fn pages() -> Result<Vec<String>> {
    let mut pages = vec!["README.md".to_owned()];
    for folder in ["docs", "deploy", "deploy/runbooks"] {
        let mut here = Vec::new();
        for entry in fs::read_dir(Path::new(ROOT).join(folder))? {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == "md") {
                let name = path.file_name().context("a name")?.display();
                here.push(format!("{folder}/{name}"));
            }
        }
        here.sort();
        pages.extend(here);
    }
    Ok(pages)
}

/// The lines of a page's blocks of commands.
fn commands(page: &str, text: &str) -> Vec<Line> {
    let mut inside = false;
    let mut lines: Vec<Line> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with("```") {
            inside = line == "```console";
        } else if let Some(before) = lines
            .last_mut()
            .filter(|before| inside && before.text.ends_with(" \\"))
        {
            // One command over several lines.
            before.text.truncate(before.text.len() - 1);
            before.text.push_str(line);
        } else if inside && !line.is_empty() {
            lines.push(Line {
                page: page.to_owned(),
                number: number + 1,
                text: line.to_owned(),
            });
        }
    }
    lines
}

/// A command line as a shell takes it apart, as far as the documents need one.
#[derive(Debug, PartialEq, Eq)]
struct Words {
    words: Vec<String>,
    /// Where its output goes.
    to: Option<String>,
}

fn words(text: &str) -> Result<Words> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    // What a person fills in stands between angle brackets; a word of its own.
    let text = text.replace("<what it printed>", "WHAT-IT-PRINTED");
    for c in text.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            '|' | ';' | '&' | '`' | '$' | '"' | '\\' if !quoted => bail!("{text}: no simple command"),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    let at = words.iter().position(|word| word == ">");
    let to = at.and_then(|at| words.get(at + 1).cloned());
    words.truncate(at.unwrap_or(words.len()));
    Ok(Words { words, to })
}

/// A server, a node, and where a page's commands are typed.
struct Scratch {
    dir: TempDir,
    server: Server,
    node: Node,
    seed: u64,
    /// What the last command printed.
    printed: String,
}

impl Scratch {
    fn new(seed: u64) -> Result<Self> {
        let scratch = Self {
            dir: tempfile::tempdir()?,
            server: Server::start()?,
            node: Node::new(seed)?,
            seed,
            printed: String::new(),
        };
        fs::create_dir(scratch.dir.path().join("home"))?;
        scratch.dwell()?;
        Ok(scratch)
    }

    /// `~/.lightning` is the node's directory.
    fn dwell(&self) -> Result<()> {
        let link = self.dir.path().join("home/.lightning");
        if link.is_symlink() {
            fs::remove_file(&link)?;
        }
        Ok(std::os::unix::fs::symlink(self.node.lightning_dir(), link)?)
    }

    /// The node lives, and stops.
    fn live(&mut self) -> Result<()> {
        self.seed += 1;
        let program = Program::new(binaries::binary("backstop")?);
        let options = lightningd::Options::new(program, self.seed);
        let mut lightningd = lightningd::Lightningd::start(&self.node, &options)?;
        lightningd.pay()?;
        lightningd.stop(0)?;
        Ok(())
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// A word of the documents as it is here.
    fn here(&self, word: &str) -> Result<String> {
        let node = self.node.node_id()?.to_string();
        Ok(match word {
            "http://127.0.0.1:8750" | "URL" => self.server.url(),
            "bitcoin" => self.node.network().to_string(),
            "NODE" => node,
            "~/.lightning" => self.path("home/.lightning"),
            "/var/lib/backstop-server" => self.server.data().display().to_string(),
            "/new/lightning-dir" => self.path("new"),
            "/srv/mirror" => self.path("mirror"),
            "/tmp/then" => self.path("then"),
            "/tmp/now.sqlite3" => self.path("now.sqlite3"),
            "/etc/backstop-server/config.toml" => self.path("config.toml"),
            "~/.local/share/man/man1" => {
                let pages = self.path("man1");
                fs::create_dir_all(&pages)?;
                pages
            }
            "~/.local/share/bash-completion/completions/backstop"
            | "~/.local/share/bash-completion/completions/backstop-server" => self.path("completions"),
            // Last Tuesday, when the node of this test was not born.
            "2026-11-22T17:00:00Z" => {
                format!("{}s", SystemClock.now().as_secs() + 1)
            }
            "WHAT-IT-PRINTED" => self.printed.trim().to_owned(),
            other => other.to_owned(),
        })
    }

    /// One of our programs with these arguments.
    fn command(&self, program: &str, arguments: &[String]) -> Result<Command> {
        let mut command = Command::new(binaries::binary(program)?);
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env("HOME", self.dir.path().join("home"))
            .env("BACKSTOP_SERVER_DATA", self.server.data())
            .env_remove("LIGHTNINGD_PLUGIN")
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Types a command of ours.
    fn obey(&mut self, typed: &Words) -> Result<()> {
        let (program, rest) = typed.words.split_first().context("an empty command")?;
        let mut arguments: Vec<String> = rest.iter().map(|word| self.here(word)).collect::<Result<_>>()?;
        let names: Vec<&str> = rest.iter().map(String::as_str).collect();
        let mut _signer = None;
        match (program.as_str(), names.as_slice()) {
            // It would run on: what it is told is judged, and it serves in all the other tests.
            ("backstop-server", ["serve", ..]) => {
                "check-config".clone_into(arguments.first_mut().context("serve")?);
            }
            ("backstop-server", ["restored" | "migrate", ..]) => self.server.stop()?,
            ("backstop-server", ["health", ..]) => return self.healthy(&arguments),
            ("backstop", ["mirror", "run", ..]) => arguments.push("--once".to_owned()),
            ("backstop", ["restore", ..]) => {
                if let Some(words) = arguments.iter().position(|argument| argument == "--mnemonic") {
                    // The same secret in its file: at a terminal the words would be asked for.
                    let file = self.node.hsm_secret().display().to_string();
                    arguments.splice(words..=words, ["--hsm-secret".to_owned(), file]);
                }
            }
            ("backstop", ["grant" | "revoke", ..]) => _signer = Some(Signer::of(&self.node)?),
            _ => {}
        }
        let output = self.command(program, &arguments)?.output()?;
        ensure!(
            output.status.success(),
            "{arguments:?}: {}\n{}",
            output.status,
            said(&output)
        );
        self.printed = String::from_utf8_lossy(&output.stdout).into_owned();
        if let Some(to) = &typed.to {
            let to = self.dir.path().join(self.here(to)?);
            fs::write(to, &output.stdout)?;
        }
        match (program.as_str(), names.as_slice()) {
            ("backstop", ["setup", ..]) => self.live(),
            ("backstop", ["restore", rest @ ..]) if !rest.contains(&"--at") => {
                self.node = self.node.at(&self.dir.path().join("new"))?;
                self.dwell()?;
                self.live()
            }
            ("backstop-server", ["restored" | "migrate", ..]) => self.server.restart(),
            _ => Ok(()),
        }
    }

    /// `health`, asked of a server that answers where the documents have theirs.
    fn healthy(&self, arguments: &[String]) -> Result<()> {
        let mut arguments = arguments.to_vec();
        let at = arguments.iter().position(|argument| argument == "127.0.0.1:8751");
        let at = at.context("health is asked where the documents have the metrics")?;
        // An address that nothing else takes: the port is free here until the server has it.
        let free = std::net::TcpListener::bind("127.77.0.2:0")?
            .local_addr()?
            .to_string();
        let _server = Server::start_with(&["--metrics", &free])?;
        *arguments.get_mut(at).context("just found")? = free;
        let output = self.command("backstop-server", &arguments)?.output()?;
        ensure!(output.status.success(), "{}", said(&output));
        Ok(())
    }

    /// Lets the real command line read a command, without obeying it.
    fn read(&self, typed: &Words) -> Result<()> {
        let (program, rest) = typed.words.split_first().context("an empty command")?;
        let mut arguments: Vec<String> = rest.iter().map(|word| self.here(word)).collect::<Result<_>>()?;
        arguments.push("--help".to_owned());
        let output = self.command(program, &arguments)?.output()?;
        ensure!(output.status.success(), "{arguments:?}: {}", said(&output));
        Ok(())
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What cargo knows by itself; `deb` is cargo-deb's.
const CARGO: &[&str] = &["build", "deb", "install", "test"];

/// A command of cargo's: its subcommand, and what it names of this project.
fn read_cargo(typed: &Words) -> Result<()> {
    let words: Vec<&str> = typed.words.iter().map(String::as_str).collect();
    let command = words.get(1).context("cargo alone")?;
    let aliases = fs::read_to_string(Path::new(ROOT).join(".cargo/config.toml"))?;
    let known = CARGO.contains(command) || aliases.contains(&format!("\n{command} = "));
    ensure!(known, "cargo {command} is no command");
    let after = |option: &str| words.iter().skip_while(|word| **word != option).nth(1);
    if let Some(path) = after("--path") {
        ensure!(
            Path::new(ROOT).join(path).join("src/main.rs").is_file(),
            "{path} holds no program"
        );
    }
    if let Some(package) = after("--package") {
        binaries::binary(package)?;
    }
    Ok(())
}

/// Types every line of a page; what it could not.
fn follow(page: &str, seed: u64) -> Result<(Vec<String>, BTreeSet<&'static str>)> {
    let lines = commands(page, &fs::read_to_string(Path::new(ROOT).join(page))?);
    let (mut faults, mut used) = (Vec::new(), BTreeSet::new());
    let ours = |line: &Line| line.text.starts_with("backstop");
    let mut scratch = lines.iter().any(ours).then(|| Scratch::new(seed)).transpose()?;
    // A page that does not begin with setup is read by somebody who has done that.
    let set_up = lines.iter().any(|line| line.text.starts_with("backstop setup"));
    if let Some(scratch) = scratch.as_mut().filter(|_| !set_up) {
        scratch.node.setup(&scratch.server.url())?;
        scratch.live()?;
    }
    for line in &lines {
        let done = words(&line.text).and_then(|typed| {
            let program = typed.words.first().context("an empty command")?.clone();
            if let Some((other, _)) = OTHERS.iter().find(|(other, _)| *other == program) {
                used.insert(*other);
                return Ok(());
            }
            match (program.as_str(), scratch.as_mut()) {
                ("cargo", _) => read_cargo(&typed),
                ("backstop" | "backstop-server", Some(scratch)) => {
                    if let Some((text, _)) = READ_ALONE.iter().find(|(text, _)| *text == line.text) {
                        used.insert(*text);
                        scratch.read(&typed)
                    } else {
                        scratch.obey(&typed)
                    }
                }
                (program, _) => bail!("nobody knows what {program} is"),
            }
        });
        if let Err(error) = done {
            faults.push(format!(
                "{}:{}: {}\n    {error:#}",
                line.page, line.number, line.text
            ));
        }
    }
    Ok((faults, used))
}

#[test]
fn every_command_of_every_page_is_typed_or_read_by_the_real_programs() -> Result<()> {
    let (mut faults, mut used) = (Vec::new(), BTreeSet::new());
    for (at, page) in pages()?.iter().enumerate() {
        let seed = 2 * u64::try_from(at)?;
        let (more, names) = follow(page, seed).with_context(|| format!("{page}, seed {seed}"))?;
        faults.extend(more);
        used.extend(names);
    }
    let listed = READ_ALONE.iter().chain(OTHERS).map(|(name, _)| *name);
    faults.extend(
        listed
            .filter(|name| !used.contains(name))
            .map(|name| format!("no document says this any more: {name}")),
    );
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    Ok(())
}

/// Commands of ours that stand between two backticks inside a text.
fn inline(text: &str) -> Vec<String> {
    let spans = text.split('`').skip(1).step_by(2);
    spans
        .filter(|span| {
            ["backstop ", "backstop-server "]
                .iter()
                .any(|program| span.starts_with(program))
        })
        .map(|span| span.replace('\n', " "))
        .collect()
}

#[test]
fn every_command_inside_a_sentence_is_one() -> Result<()> {
    let scratch = Scratch::new(72)?;
    let mut texts = pages()?;
    texts.push("deploy/prometheus/alerts.yml".to_owned());
    let (mut faults, mut seen) = (Vec::new(), 0);
    for page in texts {
        let text = fs::read_to_string(Path::new(ROOT).join(&page))?;
        for command in inline(&text) {
            seen += 1;
            // What the reader fills in: a value, or more that follows.
            let readings = [
                command
                    .replace(" …", "")
                    .replace("SIZE", "1GiB")
                    .replace(" FILE", " f")
                    .replace(" DIR", " d"),
                command.replace('…', "x"),
            ];
            let read = readings.map(|text| words(&text).and_then(|typed| scratch.read(&typed)));
            if let [Err(error), Err(_)] = read {
                faults.push(format!("{page}: {command}\n    {error:#}"));
            }
        }
    }
    assert!(
        seen > 30,
        "only {seen} commands: the check has lost sight of them"
    );
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    Ok(())
}

#[test]
fn the_recovery_page_shows_what_a_restore_prints() -> Result<()> {
    let page = fs::read_to_string(Path::new(ROOT).join("docs/recovery.md"))?;
    let (_, shown) = page
        .split_once("```text\n")
        .context("no block of what it prints")?;
    let shown: Vec<&str> = shown
        .lines()
        .take_while(|line| !line.starts_with("```"))
        .filter_map(|line| line.split(' ').next())
        .collect();
    let mut scratch = Scratch::new(70)?;
    scratch.node.setup(&scratch.server.url())?;
    scratch.live()?;
    let command = "backstop restore --server URL --to /new/lightning-dir --network bitcoin --mnemonic";
    scratch.obey(&words(command)?)?;
    let printed: Vec<&str> = scratch
        .printed
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()))
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(shown, printed, "{}", scratch.printed);
    Ok(())
}

#[test]
fn a_command_line_with_a_flag_that_is_not_there_is_found() -> Result<()> {
    let scratch = Scratch::new(71)?;
    for good in [
        "backstop status --network bitcoin",
        "backstop-server node quota NODE 10GiB",
    ] {
        scratch.read(&words(good)?)?;
    }
    for bad in [
        "backstop status --newtork bitcoin",
        "backstop verfiy --network bitcoin",
        "backstop-server serve --liste 127.0.0.1:1",
        "backstop-server serve --quota many",
    ] {
        assert!(scratch.read(&words(bad)?).is_err(), "{bad}");
    }
    assert!(read_cargo(&words("cargo moon")?).is_err());
    assert!(read_cargo(&words("cargo install --path moon")?).is_err());
    Ok(())
}

#[test]
fn a_line_is_taken_apart_as_a_shell_does_it() -> Result<()> {
    let taken = |text: &str| words(text).map(|taken| (taken.words.join("|"), taken.to));
    assert_eq!(
        taken("a 'b c' --d > e")?,
        ("a|b c|--d".to_owned(), Some("e".to_owned()))
    );
    assert_eq!(
        taken("a --key <what it printed>")?,
        ("a|--key|WHAT-IT-PRINTED".to_owned(), None)
    );
    assert!(taken("a | b").is_err());
    let block = "```text\nno\n```\n1. x\n   ```console\n   yes\n   ```\nno\n";
    let lines: Vec<_> = commands("p", block).into_iter().map(|line| line.text).collect();
    assert_eq!(lines, ["yes"]);
    Ok(())
}

#[test]
fn every_link_of_every_page_leads_somewhere() -> Result<()> {
    let mut faults = Vec::new();
    for page in pages()? {
        let path = Path::new(ROOT).join(&page);
        let text = fs::read_to_string(&path)?;
        let folder: PathBuf = path.parent().context("a page lies in a folder")?.to_owned();
        let links = text.split("](").skip(1).filter_map(|tail| tail.split(')').next());
        for link in links.filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let file = link.split('#').next().unwrap_or_default();
            if !folder.join(file).exists() {
                faults.push(format!("{page}: {link}"));
            }
        }
    }
    assert_eq!(faults, [""; 0]);
    Ok(())
}
