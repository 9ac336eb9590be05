//! `setup` against a temporary lightning-dir, a stand-in for the server, and one for the terminal.

use super::*;
use crate::cli::prompt::{PromptError, Terminal};
use anyhow::Context as _;
use backstop_protocol::{id::Network, session::IdentitySecret};
use clap::Parser as _;
use rand_core::{TryCryptoRng, TryRng};
use std::os::unix::fs::MetadataExt as _;
use std::{cell::Cell, convert::Infallible, io, path::Path};
use zeroize::Zeroizing;

mod rpc;

const URL: &str = "http://127.0.0.1:8750";
/// The node whose plain `hsm_secret` is 32 bytes of 1.
const NODE: &str = "026f61d7ee82f937f9697f4f3e44bfaaa25849cc4f526b3a57326130eba6346002";
/// 32 bytes of 1 under `test_password`.
const ENCRYPTED: &str = "579119183f1b8f1da7cc8935507ad471951d073e6f8b31be4d4ec58c594a86fb1ba479d5f2675d7ae7e111994146a61bc7905fd0342e378ed516384982a99f7207f15b4f5f609f3177";

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

/// Counts up; enough for the name of an instance.
pub(super) struct Counting(pub(super) u8);

impl TryRng for Counting {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(7)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(7)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0 += 1;
        bytes.fill(self.0);
        Ok(())
    }
}

impl TryCryptoRng for Counting {}

struct Typing(Option<&'static str>);

impl Terminal for Typing {
    fn ask_unseen(&mut self, _: &str) -> io::Result<Option<Zeroizing<String>>> {
        Ok(self.0.map(|typed| Zeroizing::new(typed.to_owned())))
    }
}

fn server_key(byte: u8) -> ServerKey {
    IdentitySecret::from_bytes(&[byte; 32]).unwrap().server_key()
}

/// A lightning-dir with one regtest node, and what surrounds it.
struct Lab {
    home: tempfile::TempDir,
    here: Here,
    typing: Typing,
    watched: bool,
    /// The key with which the server answers; `None`: it does not.
    server: Option<ServerKey>,
    /// How many records it holds already.
    records: u64,
    asked: Cell<u32>,
}

impl Lab {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let here = Here {
            home: Some(home.path().to_owned()),
            cwd: home.path().to_owned(),
            program: "/usr/local/bin/backstop".into(),
        };
        let lab = Self {
            home,
            here,
            typing: Typing(None),
            watched: true,
            server: Some(server_key(9)),
            records: 0,
            asked: Cell::new(0),
        };
        std::fs::create_dir_all(lab.net()).unwrap();
        lab.write_secret(&[1; 32]);
        lab
    }

    fn net(&self) -> PathBuf {
        self.home.path().join(".lightning/regtest")
    }

    fn directory(&self) -> Directory {
        Directory::in_network_dir(&self.net())
    }

    fn write_secret(&self, bytes: &[u8]) {
        std::fs::write(self.net().join("hsm_secret"), bytes).unwrap();
    }

    /// Runs setup with `--regtest --server URL` and `more`; what it printed.
    fn run(&mut self, more: &[&str]) -> anyhow::Result<String> {
        let url = if more.contains(&"--server") {
            &[][..]
        } else {
            &["--server", URL]
        };
        let cli = Cli::try_parse_from([&["setup", "--regtest"], url, more].concat())?;
        let (server, records, asked) = (self.server, self.records, &self.asked);
        let mut prove_server = |proof: &Proof, identity: &Identity| {
            asked.set(asked.get() + 1);
            let grant = identity.grant.verify()?;
            assert_eq!(
                (grant.node, grant.network, grant.serial),
                (identity.node, identity.network, 1)
            );
            let key = server.with_context(|| format!("no answer from {}", proof.url))?;
            Ok(Proved { key, records })
        };
        let mut out = Vec::new();
        let mut world = World {
            here: &self.here,
            terminal: &mut self.typing,
            watched: self.watched,
            out: &mut out,
            rng: SharedRng::new(Counting(0)),
            prove_server: &mut prove_server,
        };
        setup(&cli.args, &mut world)?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn refusal(&mut self, more: &[&str]) -> String {
        format!("{:#}", self.run(more).unwrap_err())
    }

    /// Every file below the network's directory with its content.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        fn walk(dir: &Path, out: &mut Vec<(PathBuf, Vec<u8>)>) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, out);
                } else {
                    out.push((path.clone(), std::fs::read(path).unwrap()));
                }
            }
        }
        let mut files = Vec::new();
        walk(&self.net(), &mut files);
        files.sort();
        files
    }
}

#[test]
fn setup_leaves_what_the_plugin_needs_and_says_what_to_do_next() {
    let mut lab = Lab::new();
    let printed = lab.run(&[]).unwrap();
    let config = lab.directory().config().unwrap();
    assert_eq!(
        (config.node.to_string().as_str(), config.network),
        (NODE, Network::Regtest)
    );
    assert_eq!(
        config.servers,
        [ServerConfig {
            url: URL.to_owned(),
            key: server_key(9)
        }]
    );
    assert_eq!(config.database, None);
    assert_eq!(lab.directory().instance().unwrap(), InstanceId([1; 16]));

    let key = KeyFile::read(&lab.directory().key_path()).ok().unwrap();
    assert_eq!(
        (key.node, key.network, key.generation),
        (config.node, config.network, FIRST_GENERATION)
    );
    let access = crate::keys::Keys::derive(&key.root).access.access_key();
    assert_eq!(config.grant.verify().unwrap().access_key, access);

    assert!(printed.contains("important-plugin=/usr/local/bin/backstop\n"));
    assert!(printed.contains(NODE) && printed.contains(&server_key(9).to_string()));
    let line = printed
        .lines()
        .find(|line| line.trim().starts_with("backstop1 "))
        .unwrap();
    assert!(RecoveryKey::parse(line).ok().unwrap().root.is(&key.root));
    let mode = std::fs::metadata(lab.directory().path()).unwrap().mode() & 0o777;
    assert_eq!(mode, 0o700);
}

#[test]
fn run_again_it_changes_nothing_and_says_so() {
    let mut lab = Lab::new();
    lab.run(&[]).unwrap();
    let before = lab.files();
    let printed = lab.run(&["--server-key", &server_key(9).to_string()]).unwrap();
    assert!(printed.contains("nothing was changed"));
    assert!(!printed.contains("backstop1 "), "the recovery key is shown once");
    assert!(lab.run(&["--show-recovery-key"]).unwrap().contains("backstop1 "));
    assert!(
        lab.run(&["--server", "HTTP://127.0.0.1:8750/"])
            .unwrap()
            .contains("nothing was changed")
    );
    assert_eq!(lab.files(), before);
    assert_eq!(lab.asked.get(), 4, "the server is asked each time");
}

#[test]
fn another_server_node_or_root_is_refused_with_the_way_out() {
    let mut lab = Lab::new();
    lab.run(&[]).unwrap();
    let before = lab.files();
    let refused = lab.refusal(&["--server", "http://127.0.0.1:8751"]);
    assert!(
        refused.contains(URL) && refused.contains("To start over"),
        "{refused}"
    );
    let refused = lab.refusal(&["--server-key", &server_key(8).to_string()]);
    assert!(refused.contains("--server-key"), "{refused}");
    let refused = lab.refusal(&["--generation", "2"]);
    assert!(refused.contains("--generation"), "{refused}");
    assert_eq!(lab.files(), before);

    lab.write_secret(&[2; 32]);
    let before = lab.files();
    let refused = lab.refusal(&[]);
    assert!(refused.contains(NODE) && refused.contains("mv "), "{refused}");
    assert_eq!(lab.files(), before);
    assert_eq!(
        lab.asked.get(),
        1,
        "the server is not asked about what is refused anyway"
    );
}

#[test]
fn a_server_with_another_key_than_the_pinned_one_is_a_hard_error() {
    let mut lab = Lab::new();
    lab.server = Some(server_key(8));
    let refused = lab.refusal(&["--server-key", &server_key(9).to_string()]);
    assert!(refused.contains("another server"), "{refused}");
    assert!(!lab.directory().path().exists());

    lab.run(&[]).unwrap();
    let before = lab.files();
    lab.server = Some(server_key(9));
    assert!(lab.refusal(&[]).contains("another server"));
    assert_eq!(lab.files(), before);
}

#[test]
fn nothing_is_written_before_the_server_has_answered() {
    let mut lab = Lab::new();
    lab.server = None;
    assert!(lab.refusal(&[]).contains("no answer"));
    assert_eq!(lab.files().len(), 1);
}

#[test]
fn a_setup_that_was_cut_off_is_finished_by_the_next_one() {
    let mut lab = Lab::new();
    lab.run(&[]).unwrap();
    let whole = lab.files();
    std::fs::remove_file(lab.directory().path().join("config.toml")).unwrap();
    assert!(lab.refusal(&["--generation", "2"]).contains("another root"));
    lab.run(&[]).unwrap();
    assert_eq!(lab.files(), whole);

    std::fs::remove_file(lab.directory().key_path()).unwrap();
    assert!(lab.run(&[]).unwrap().contains("which was missing"));
    assert_eq!(lab.files(), whole);
}

#[test]
fn a_passphrase_is_asked_for_where_one_is_needed_and_only_there() {
    let mut lab = Lab::new();
    lab.write_secret(&hex::decode(ENCRYPTED).unwrap());
    let error = lab.run(&[]).unwrap_err();
    assert!(matches!(
        error.downcast_ref(),
        Some(PromptError::NobodyToAsk {
            option: "--passphrase-fd",
            ..
        })
    ));
    lab.typing = Typing(Some("wrong"));
    assert!(lab.refusal(&[]).contains("passphrase is wrong"));
    lab.typing = Typing(Some("test_password"));
    assert!(lab.run(&[]).unwrap().contains(NODE));
}

#[test]
fn without_a_terminal_the_recovery_key_is_shown_only_on_request() {
    let mut lab = Lab::new();
    lab.watched = false;
    let printed = lab.run(&[]).unwrap();
    assert!(!printed.contains("backstop1 ") && printed.contains("--show-recovery-key"));
    assert!(lab.run(&["--show-recovery-key"]).unwrap().contains("backstop1 "));
}

#[test]
fn a_place_without_a_node_or_with_postgres_is_refused() {
    let mut lab = Lab::new();
    std::fs::write(
        lab.home.path().join(".lightning/config"),
        "wallet=postgres://u:secret@h/db\n",
    )
    .unwrap();
    let refused = lab.refusal(&[]);
    assert!(
        refused.contains("PostgreSQL") && !refused.contains("secret@"),
        "{refused}"
    );
    std::fs::write(
        lab.home.path().join(".lightning/config"),
        "wallet=sqlite3:///elsewhere/db\n",
    )
    .unwrap();
    lab.run(&[]).unwrap();
    assert_eq!(
        lab.directory().config().unwrap().database,
        Some("/elsewhere/db".into())
    );

    std::fs::remove_file(lab.net().join("hsm_secret")).unwrap();
    assert!(lab.refusal(&[]).contains("--from-rpc"));
    assert!(
        lab.refusal(&["--lightning-dir", "nowhere"])
            .contains("--lightning-dir")
    );
}

#[test]
fn a_url_that_names_no_server_is_refused() {
    let mut lab = Lab::new();
    for url in [
        "127.0.0.1:8750",
        "ftp://host",
        "http://",
        "http://user:secret@host",
        "http://host/?q",
    ] {
        assert!(lab.run(&["--server", url]).is_err(), "{url}");
    }
    assert_eq!(lab.asked.get(), 0);
}

#[test]
fn a_backup_that_another_directory_wrote_is_pointed_out() {
    let mut lab = Lab::new();
    lab.records = 7;
    assert!(lab.run(&[]).unwrap().contains("7 records"));
    assert!(
        !lab.run(&[]).unwrap().contains("7 records"),
        "by now they are this directory's own"
    );
}
