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
