//! What an operator types about nodes and invitations, beside the server that runs.

use crate::{
    process::{Process, fails},
    support::Node,
};
use backstop_protocol::api::Appended;
use backstop_server::store::InviteToken;
use serde_json::Value;
use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};
use std::{path::Path, process::Command};

fn typed(data: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstop-server"));
    command.args(words).arg("--data").arg(data);
    command
}

fn json(data: &Path, words: &[&str]) -> Value {
    let said = typed(data, words).arg("--json").output().unwrap();
    assert!(said.status.success(), "{said:?}");
    serde_json::from_slice(&said.stdout).unwrap()
}

#[tokio::test]
async fn an_operator_looks_after_nodes_while_the_server_runs() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path());
    let node = Node::new(1);
    let id = node.id().to_string();
    let mut client = node.first(&process.place).await;
    client.append(1).await;
    let data = dir.path();
    let listed = json(data, &["node", "list"]);
    assert_eq!(listed["nodes"][0]["node"], id.as_str());
    assert_eq!(listed["nodes"][0]["seq"], 1);
    assert_eq!(json(data, &["node", "show", &id])["quota"], Value::Null);
    assert_eq!(json(data, &["node", "quota", &id, "1MiB"])["quota"], 1 << 20);
    assert_eq!(client.state().await.quota.unwrap().bytes, 1 << 20);
    assert_eq!(json(data, &["node", "quota", &id, "none"])["unlimited"], true);
    assert_eq!(client.state().await.quota, None);
    json(data, &["node", "quota", &id, "default"]);
    assert_eq!(json(data, &["node", "remove", &id])["removal_by"], "operator");
    assert!(client.state().await.removal_at.is_some());
    assert_eq!(json(data, &["node", "restore", &id])["removal_at"], Value::Null);
    assert_eq!(client.state().await.removal_at, None);
    assert_eq!(json(data, &["node", "rollup", &id])["roll_up_ordered"], true);
    let other = Node::new(2).id().to_string();
    json(
        data,
        &[
            "node",
            "allow",
            &other,
            "--network",
            "regtest",
            "--with-quota",
            "5G",
        ],
    );
    assert_eq!(json(data, &["node", "list"])["allowed"][0]["quota"], 5_u64 << 30);
    json(data, &["node", "allow", &other, "--network", "regtest", "--undo"]);
    let said = fails(typed(data, &["node", "remove", &other]));
    assert!(
        said.contains("no node") && said.contains("backstop status"),
        "{said}"
    );
    let made = json(data, &["invite", "create", "--uses", "2", "--note", "Ann"]);
    let text = made["invite"].as_str().unwrap();
    let token = InviteToken::read(text).unwrap();
    assert_eq!(made["name"], token.id().to_string().as_str());
    let invites = json(data, &["invite", "list"]);
    assert_eq!(
        (&invites[0]["note"], &invites[0]["open"]),
        (&"Ann".into(), &true.into())
    );
    assert_eq!(invites[0].get("invite"), None);
    let revoked = json(data, &["invite", "revoke", &token.id().to_string()]);
    assert_eq!(revoked["open"], false);
    let said = fails(typed(data, &["invite", "revoke", "00000000"]));
    assert!(said.contains("no invitation 00000000"), "{said}");
    // The roll-up that was ordered is asked for; nothing else is different.
    let next = client.next(2);
    let appended: Appended = client.try_append(&next).await.json();
    assert_eq!((appended.roll_up, appended.head.seq), (true, 2));
}

#[tokio::test]
async fn a_node_is_called_silent_by_the_settings_of_its_server() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path());
    Node::new(1).first(&process.place).await.append(1).await;
    // As if it had written half a day ago, in a rhythm of half a day.
    let options = SqliteConnectOptions::new().filename(dir.path().join("backstop.sqlite3"));
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql("UPDATE accounts SET head_received_at = head_received_at - 43200000, rhythm_ms = 43200000")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    let silent = |config: &str| {
        let file = dir.path().join("config.toml");
        std::fs::write(&file, config).unwrap();
        let mut listed = typed(dir.path(), &["node", "list", "--json"]);
        let said = listed.arg("--config").arg(file).output().unwrap();
        assert!(said.status.success(), "{said:?}");
        let said: Value = serde_json::from_slice(&said.stdout).unwrap();
        !said["nodes"][0]["silent_since"].is_null()
    };
    assert!(!silent(""));
    assert!(silent("silent-after = \"6h\"\n"));
}
