//! What the node's owner needs on the worst day: the secret, and what unlocks it.

use super::finding::Finding;
use crate::cln::{HsmSecret, NodeDir};

/// Says what a restore will ask for. The secret itself is neither unlocked nor kept (I11).
pub(super) fn secret(files: &NodeDir) -> Finding {
    let check = "secret";
    let path = files.hsm_secret();
    if !path.exists() {
        return Finding::warning(
            check,
            "There is no hsm_secret here, as with a remote signer. A restore takes the recovery key that setup showed: make sure \
             that you wrote it down (backstop setup --show-recovery-key shows it again).",
        );
    }
    match HsmSecret::read(&path) {
        Ok(secret) if secret.needs_passphrase() => Finding::warning(
            check,
            "hsm_secret is protected by a passphrase, and a restore asks for it. Keep it where you keep the words or the file: \
             the one is worth nothing without the other.",
        ),
        Ok(secret) if secret.has_words() => Finding::ok(
            check,
            "the node's words bring it back: keep them away from this machine",
        ),
        Ok(_) => Finding::ok(
            check,
            "hsm_secret is 32 bytes without words: keep a copy of the file, or the recovery key, away from this machine",
        ),
        Err(error) => Finding::wrong(
            check,
            format!("{error}. A restore needs it, or the recovery key that setup showed."),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Level, *};
    use crate::cln::locate::Asked;
    use backstop_protocol::id::Network;

    #[test]
    fn each_form_of_secret_is_told_with_what_a_restore_asks_for() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("regtest")).unwrap();
        let asked = Asked {
            lightning_dir: Some(dir.path().to_owned()),
            network: Some(Network::Regtest),
            ..Asked::default()
        };
        let node = NodeDir::find(&asked, None, dir.path()).unwrap();
        let words = "abandon ".repeat(11) + "about";
        let with = |first: u8| [[first; 32].as_slice(), words.as_bytes()].concat();
        for (bytes, level, says) in [
            (None, Level::Warning, "recovery key that setup showed"),
            (Some(vec![1; 32]), Level::Ok, "a copy of the file"),
            (Some(vec![1; 73]), Level::Warning, "passphrase"),
            (Some(with(0)), Level::Ok, "words bring it back"),
            (Some(with(9)), Level::Warning, "passphrase"),
            (Some(vec![1; 5]), Level::Wrong, "is it the right file?"),
        ] {
            let _ = std::fs::remove_file(node.hsm_secret());
            if let Some(bytes) = bytes {
                std::fs::write(node.hsm_secret(), bytes).unwrap();
            }
            let found = secret(&node);
            assert_eq!(found.level, level, "{found:?}");
            assert!(found.says.contains(says), "{found:?}");
        }
    }
}
