//! The secrets that may open the backup: a file gives one, words give two, a recovery key gives the root itself.

use super::Args;
use crate::{
    cli::prompt::{self, Terminal, Wanted},
    cln::{HsmSecret, Mnemonic, NodeKey},
    keys::{RecoveryKey, Root},
};
use anyhow::ensure;
use backstop_protocol::id::NodeId;
use zeroize::Zeroizing;

const WORDS: Wanted = Wanted {
    what: "the words of the node",
    option: "--secret-fd",
};
const RECOVERY_KEY: Wanted = Wanted {
    what: "the recovery key",
    option: "--secret-fd",
};
const FILE_PASSPHRASE: Wanted = Wanted {
    what: "the passphrase of hsm_secret",
    option: "--passphrase-fd",
};
const WORDS_PASSPHRASE: Wanted = Wanted {
    what: "the passphrase of the words, nothing where there is none",
    option: "--passphrase-fd",
};

/// One root that may be the backup's.
pub(super) struct Candidate {
    pub(super) root: Root,
    /// The node's own key, where the secret holds it.
    pub(super) node_key: Option<NodeKey>,
    /// The content of the node's `hsm_secret`, where it is to be written.
    pub(super) hsm_secret: Option<Zeroizing<Vec<u8>>>,
}

impl Candidate {
    /// The node, where the secret tells.
    pub(super) fn node(&self) -> Option<NodeId> {
        self.node_key.as_ref().map(NodeKey::node_id)
    }
}

/// Reads or asks for the secret that `args` name.
pub(super) fn candidates(args: &Args, terminal: &mut dyn Terminal) -> anyhow::Result<Vec<Candidate>> {
    if let Some(path) = &args.hsm_secret {
        let file = HsmSecret::read(path)?;
        let passphrase = if file.needs_passphrase() || args.passphrase_fd.is_some() {
            Some(prompt::secret(terminal, FILE_PASSPHRASE, args.passphrase_fd)?)
        } else {
            None
        };
        let secret = file.unlock(passphrase.as_ref().map(|text| text.as_str()))?;
        return Ok(vec![Candidate {
            root: secret.backstop_root(args.network, args.generation),
            node_key: Some(secret.node_key()),
            hsm_secret: None,
        }]);
    }
    if args.recovery_key {
        let text = prompt::secret(terminal, RECOVERY_KEY, args.secret_fd)?;
        let key = RecoveryKey::parse(&text)?;
        ensure!(
            key.network == args.network,
            "this recovery key is of a node on {}, not on {}",
            key.network,
            args.network
        );
        return Ok(vec![Candidate {
            root: key.root,
            node_key: None,
            hsm_secret: None,
        }]);
    }
    let words = Mnemonic::parse(&prompt::secret(terminal, WORDS, args.secret_fd)?)?;
    // Where the words came without a person, no person is there for the passphrase.
    let passphrase = match (args.passphrase_fd, args.secret_fd) {
        (None, Some(_)) => None,
        (fd, _) => Some(prompt::secret(terminal, WORDS_PASSPHRASE, fd)?),
    };
    let candidates = words.candidates(passphrase.as_ref().map(|text| text.as_str()));
    Ok(candidates
        .iter()
        .map(|candidate| Candidate {
            root: candidate.secret.backstop_root(args.network, args.generation),
            node_key: Some(candidate.secret.node_key()),
            hsm_secret: Some(Zeroizing::new(candidate.hsm_secret_file_bytes().to_vec())),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_protocol::id::Network;
    use clap::Parser as _;
    use std::{io, path::Path};

    const TYPED: &str =
        "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about";

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    struct Typing(Vec<&'static str>);

    impl Terminal for Typing {
        fn ask_unseen(&mut self, _: &str) -> io::Result<Option<Zeroizing<String>>> {
            Ok(self.0.pop().map(|typed| Zeroizing::new(typed.to_owned())))
        }
    }

    fn parse(secret: &[&str]) -> Result<Args, clap::Error> {
        let fixed = [
            "backstop",
            "--server",
            "http://server",
            "--to",
            "/ln",
            "--network",
            "regtest",
        ];
        Cli::try_parse_from([&fixed, secret].concat()).map(|cli| cli.args)
    }

    fn found(secret: &[&str], typed: &[&'static str]) -> Result<Vec<Candidate>, String> {
        let mut typed = typed.to_vec();
        typed.reverse();
        candidates(&parse(secret).unwrap(), &mut Typing(typed)).map_err(|error| error.to_string())
    }

    #[test]
    fn exactly_one_secret_is_named_and_none_is_an_argument() {
        assert!(parse(&[]).is_err());
        assert!(parse(&["--mnemonic", "--recovery-key"]).is_err());
        assert!(parse(&["--mnemonic", TYPED]).is_err());
        assert!(parse(&["--hsm-secret", "f", "--secret-fd", "3"]).is_err());
        assert!(parse(&["--recovery-key", "--generation", "2"]).is_err());
        assert!(parse(&["--recovery-key", "--secret-fd", "3"]).is_ok());
    }

    #[test]
    fn words_give_both_roots_that_a_node_may_have_made_of_them_and_the_file_of_each() {
        let found = found(&["--mnemonic"], &[TYPED, ""]).unwrap();
        let [present, older] = found.as_slice() else {
            panic!("two ways")
        };
        assert_eq!(present.node(), older.node());
        assert!(!present.root.is(&older.root));
        let file = |candidate: &Candidate| candidate.hsm_secret.as_ref().unwrap().to_vec();
        assert_eq!(file(present), [&[0; 32], TYPED.as_bytes()].concat());
        assert_eq!(file(older).len(), 32);
    }

    #[test]
    fn a_passphrase_makes_another_node_of_the_same_words() {
        let plain = found(&["--mnemonic"], &[TYPED, ""]).unwrap();
        let with = found(&["--mnemonic"], &[TYPED, "passphrase"]).unwrap();
        assert_ne!(plain[0].node(), with[0].node());
    }

    #[test]
    fn a_file_gives_one_root_and_is_not_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hsm_secret");
        std::fs::write(&path, [1; 32]).unwrap();
        let named = |path: &Path| found(&["--hsm-secret", path.to_str().unwrap()], &[]);
        let found = named(&path).unwrap();
        assert!(matches!(
            found.as_slice(),
            [Candidate {
                node_key: Some(_),
                hsm_secret: None,
                ..
            }]
        ));
        assert!(named(&dir.path().join("none")).is_err());
    }

    #[test]
    fn a_recovery_key_is_the_root_itself_for_its_network_alone() {
        let root = Root::from_bytes([3; 32]);
        let text = |network| RecoveryKey::to_text(network, &root).to_string();
        let (right, wrong) = (text(Network::Regtest).leak(), text(Network::Bitcoin).leak());
        let one = found(&["--recovery-key"], &[right]).unwrap();
        assert!(
            matches!(one.as_slice(), [candidate] if candidate.root.is(&root) && candidate.node().is_none())
        );
        assert!(
            found(&["--recovery-key"], &[wrong])
                .err()
                .unwrap()
                .contains("on bitcoin, not on regtest")
        );
    }

    #[test]
    fn nothing_is_repeated_of_a_secret_that_cannot_be_read() {
        let error = found(&["--mnemonic"], &["abandon abandon secretword"])
            .err()
            .unwrap();
        assert!(!error.contains("abandon abandon"));
        assert!(
            found(&["--recovery-key"], &[])
                .err()
                .unwrap()
                .contains("--secret-fd 3 3< FILE")
        );
    }
}
