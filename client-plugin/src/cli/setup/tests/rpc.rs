//! `setup --from-rpc` against a stand-in for lightningd.

use super::*;
use crate::{
    cln::{
        NodeSecret,
        derive::root_info,
        rpc::testing::{Lightningd, result},
    },
    keys::Keys,
};
use backstop_protocol::grant::{Grant, Scope};
use serde_json::json;

/// Answers of a node that lives in `net_dir`, signs with `signer` and has `wallet` on its command line.
fn node_answers(net_dir: &Path, signer: &NodeSecret, wallet: Option<&str>) -> Lightningd {
    let secret = NodeSecret::short(Zeroizing::new([1; 32]));
    let root = secret.backstop_root(Network::Regtest, 1);
    let text = Grant {
        access_key: Keys::derive(&root).access.access_key(),
        scope: Scope::Append,
        node: secret.node_id(),
        network: Network::Regtest,
        serial: 1,
        expires_at: None,
    }
    .to_string();
    let info = json!({ "id": NODE, "network": "regtest", "version": "v26.06", "lightning-dir": net_dir });
    let configs = match wallet {
        Some(wallet) => json!({ "wallet": { "value_str": wallet, "source": "cmdline" } }),
        None => json!({}),
    };
    Lightningd::answering(&[
        result(&info),
        result(&json!({ "configs": configs })),
        result(&json!({ "secret": hex::encode(root.expose_bytes()) })),
        result(&json!({ "zbase": signer.node_key().signmessage(&text) })),
    ])
}

impl Lab {
    fn ask(&mut self, lightningd: &Lightningd) -> anyhow::Result<String> {
        let socket = lightningd.socket().to_str().unwrap().to_owned();
        self.run(&["--from-rpc", "--rpc-file", &socket])
    }
}

#[test]
fn a_running_node_gives_the_same_directory_as_its_secret() {
    let signer = NodeSecret::short(Zeroizing::new([1; 32]));
    let mut lab = Lab::new();
    lab.run(&[]).unwrap();
    let from_file = std::fs::read(lab.directory().path().join("config.toml")).unwrap();
    let root = KeyFile::read(&lab.directory().key_path()).ok().unwrap().root;

    let mut lab = Lab::new();
    std::fs::remove_file(lab.net().join("hsm_secret")).unwrap();
    let lightningd = node_answers(&lab.net(), &signer, None);
    lab.ask(&lightningd).unwrap();
    assert_eq!(
        std::fs::read(lab.directory().path().join("config.toml")).unwrap(),
        from_file
    );
    assert!(
        KeyFile::read(&lab.directory().key_path())
            .ok()
            .unwrap()
            .root
            .is(&root)
    );
    let asked = &lightningd.requests()[2]["params"]["hex"];
    assert_eq!(*asked, json!(hex::encode(root_info(Network::Regtest, 1))));
}

#[test]
fn what_a_running_node_answers_is_checked_before_it_is_believed() {
    let (signer, stranger) = (
        NodeSecret::short(Zeroizing::new([1; 32])),
        NodeSecret::short(Zeroizing::new([2; 32])),
    );
    let mut lab = Lab::new();
    let elsewhere = tempfile::tempdir().unwrap();
    for (lightningd, want) in [
        (node_answers(&lab.net(), &stranger, None), "no server would take"),
        (node_answers(elsewhere.path(), &signer, None), "--lightning-dir"),
        (
            node_answers(&lab.net(), &signer, Some("postgres://h/db")),
            "PostgreSQL",
        ),
    ] {
        let refused = format!("{:#}", lab.ask(&lightningd).unwrap_err());
        assert!(refused.contains(want), "{refused}");
    }
    assert_eq!(lab.asked.get(), 0);
    let lightningd = node_answers(&lab.net(), &signer, Some("sqlite3:///elsewhere/db"));
    lab.ask(&lightningd).unwrap();
    assert_eq!(
        lab.directory().config().unwrap().database,
        Some("/elsewhere/db".into())
    );
}
