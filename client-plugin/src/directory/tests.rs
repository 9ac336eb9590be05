use super::*;
use crate::files::FileName;
use backstop_protocol::{
    grant::{Grant, Scope, SignedGrant},
    head::Head,
    id::{AccessKey, InstanceId, Network, NodeId, RecordHash, RunId, ServerKey, TimelineId},
};

fn directory() -> (tempfile::TempDir, Directory) {
    let dir = tempfile::tempdir().unwrap();
    let directory = Directory::in_network_dir(dir.path());
    directory.create().unwrap();
    (dir, directory)
}

fn config() -> Config {
    let node_key = secp256k1::SecretKey::from_secret_bytes([1; 32]).unwrap();
    let node = NodeId(node_key.public_key().serialize());
    let grant = Grant {
        access_key: AccessKey([2; 32]),
        scope: Scope::Append,
        node,
        network: Network::Regtest,
        serial: 1,
        expires_at: None,
    };
    Config {
        version: 1,
        node,
        network: Network::Regtest,
        require: RequireConfig::All,
        proxy: None,
        database: None,
        files: FileName::defaults(),
        outage: OutageConfig::default(),
        shadow: ShadowConfig::default(),
        grant: SignedGrant::sign(&grant, &node_key),
        servers: vec![ServerConfig {
            url: "http://127.0.0.1:8750".into(),
            key: ServerKey([3; 32]),
        }],
    }
}

#[test]
fn every_file_is_read_as_it_was_written() {
    let (_dir, directory) = directory();
    assert!(!directory.exists());
    directory.write_config(&config()).unwrap();
    assert!(directory.exists());
    assert_eq!(directory.config().unwrap(), config());

    directory.write_instance(InstanceId([4; 16])).unwrap();
    assert_eq!(directory.instance().unwrap(), InstanceId([4; 16]));

    assert_eq!(directory.witness().unwrap(), None);
    let witness = Witness::new(
        TimelineId([5; 16]),
        Head {
            epoch: 1,
            seq: 2,
            hash: RecordHash([6; 32]),
        },
        9,
    );
    directory.write_witness(&witness).unwrap();
    assert_eq!(directory.witness().unwrap(), Some(witness));
}

#[test]
fn what_is_missing_or_wrong_is_said_with_its_path_and_never_defaulted() {
    let (_dir, directory) = directory();
    let missing = directory.config().unwrap_err().to_string();
    assert!(
        missing.contains("config.toml") && missing.contains("backstop setup"),
        "{missing}"
    );

    let good = toml::to_string(&config()).unwrap();
    let spoiled = [
        good.replace("version = 1", "version = 2"),
        good.replace("[[server]]", "[[sever]]"),
        format!("colour = \"blue\"\n{good}"),
        good.replace("may append", "may read"),
        good.replace("\nbytes = 67108864", "\nbytes = 4095"),
        good.replace("\nseconds = 600", "\nseconds = 3601"),
        good.replace("\nseconds = 600", "\nseconds = 5"),
        good.replace("after_seconds = 5", "after_seconds = 26"),
        good.replace("policy = \"stall\"", "policy = \"go on\""),
        good.replace("halt_after_seconds = 600", "halt_after_seconds = 0"),
        good.replace("network = \"regtest\"", "network = \"bitcoin\""),
        "not toml".to_owned(),
    ];
    for text in spoiled {
        std::fs::write(directory.path().join("config.toml"), &text).unwrap();
        assert!(
            matches!(directory.config(), Err(DirectoryError::Bad { .. })),
            "{text}"
        );
    }
    for file in ["runs", "witness"] {
        std::fs::write(directory.path().join(file), "{}").unwrap();
    }
    assert!(matches!(directory.runs(), Err(DirectoryError::Bad { .. })));
    assert!(matches!(directory.witness(), Err(DirectoryError::Bad { .. })));
}

#[test]
fn a_copy_of_the_directory_is_known_as_a_copy() {
    let (dir, directory) = directory();
    directory.begin_run(RunId([1; 16])).unwrap();
    let runs = directory.runs().unwrap().unwrap();
    assert!(!directory.is_copied(&runs).unwrap());

    let copy = Directory::in_network_dir(&dir.path().join("elsewhere"));
    copy.create().unwrap();
    std::fs::copy(directory.path().join("runs"), copy.path().join("runs")).unwrap();
    let copied = copy.runs().unwrap().unwrap();
    assert_eq!(copied, runs);
    assert!(copy.is_copied(&copied).unwrap());
}

#[test]
fn runs_are_remembered_until_one_ends_cleanly() {
    let (_dir, directory) = directory();
    let run = |byte| RunId([byte; 16]);
    directory.begin_run(run(1)).unwrap();
    directory.begin_run(run(2)).unwrap();
    let runs = directory.runs().unwrap().unwrap();
    assert!(runs.knows(run(1)) && runs.knows(run(2)) && !runs.clean);

    directory.end_run().unwrap();
    let runs = directory.runs().unwrap().unwrap();
    assert!(runs.knows(run(2)) && runs.clean);

    directory.begin_run(run(3)).unwrap();
    let runs = directory.runs().unwrap().unwrap();
    assert!(runs.knows(run(3)) && !runs.knows(run(1)) && !runs.clean);
}

#[test]
fn only_so_many_runs_are_remembered_and_the_oldest_is_forgotten() {
    let (_dir, directory) = directory();
    for number in 0..300_u128 {
        directory.begin_run(RunId(number.to_be_bytes())).unwrap();
    }
    let runs = directory.runs().unwrap().unwrap();
    assert_eq!(runs.runs.len(), 256);
    assert!(!runs.knows(RunId(43_u128.to_be_bytes())) && runs.knows(RunId(44_u128.to_be_bytes())));
}

#[test]
fn the_lock_keeps_a_second_holder_out_until_it_is_dropped() {
    let (_dir, directory) = directory();
    let held = directory.lock().unwrap();
    assert!(matches!(directory.lock(), Err(LockError::Held)));
    drop(held);
    assert!(directory.lock().is_ok());
}
