use super::*;
use crate::{
    cln::{NodeSecret, locate::Asked},
    directory::RequireConfig,
};
use backstop_protocol::id::Network;
use zeroize::Zeroizing;

const KEY: ServerKey = ServerKey([7; 32]);

struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("regtest")).unwrap();
        Self { dir }
    }

    fn net(&self, file: &str) -> PathBuf {
        self.dir.path().join("regtest").join(file)
    }

    fn look(&self) -> Result<Place, String> {
        let asked = Asked {
            lightning_dir: Some(self.dir.path().to_owned()),
            network: Some(Network::Regtest),
            ..Asked::default()
        };
        let node = NodeDir::find(&asked, None, self.dir.path()).unwrap();
        let secret = secret(1);
        let candidate = Candidate {
            root: secret.backstop_root(Network::Regtest, 1),
            node_key: None,
            hsm_secret: None,
        };
        Place::look(node, &candidate, secret.node_id(), "http://server", KEY)
            .map_err(|error| error.to_string())
    }
}

fn secret(byte: u8) -> NodeSecret {
    NodeSecret::short(Zeroizing::new([byte; 32]))
}

#[test]
fn an_empty_directory_is_free_and_looking_leaves_it_empty() {
    let lab = Lab::new();
    let place = lab.look().unwrap();
    assert_eq!(place.database(), lab.net("lightningd.sqlite3"));
    assert_eq!(place.hsm_secret, Existing::None);
    assert_eq!(fs::read_dir(lab.dir.path().join("regtest")).unwrap().count(), 0);
    fs::remove_dir(lab.dir.path().join("regtest")).unwrap();
    lab.look().unwrap().make().unwrap();
    assert!(lab.dir.path().join("regtest").is_dir());
}

#[test]
fn a_database_that_is_there_is_named() {
    let lab = Lab::new();
    fs::write(lab.net("lightningd.sqlite3-wal"), b"").unwrap();
    assert!(
        lab.look()
            .err()
            .unwrap()
            .contains("lightningd.sqlite3-wal exists")
    );
}

#[test]
fn a_database_elsewhere_is_restored_to_where_lightningd_will_look() {
    let lab = Lab::new();
    fs::write(lab.dir.path().join("config"), "wallet=sqlite3:///elsewhere/db\n").unwrap();
    assert_eq!(lab.look().unwrap().database(), Path::new("/elsewhere/db"));
    fs::write(lab.dir.path().join("config"), "wallet=postgres://db\n").unwrap();
    assert!(lab.look().err().unwrap().contains("PostgreSQL"));
}

#[test]
fn an_hsm_secret_of_another_node_is_an_obstacle_and_the_nodes_own_is_none() {
    let lab = Lab::new();
    fs::write(lab.net("hsm_secret"), [1; 32]).unwrap();
    assert_eq!(lab.look().unwrap().hsm_secret, Existing::Own);
    fs::write(lab.net("hsm_secret"), [2; 32]).unwrap();
    assert!(
        lab.look()
            .err()
            .unwrap()
            .contains("restore into another directory")
    );
    fs::write(lab.net("hsm_secret"), [2; 73]).unwrap();
    assert_eq!(lab.look().unwrap().hsm_secret, Existing::Locked);
    fs::write(lab.net("hsm_secret"), [2; 5]).unwrap();
    assert!(lab.look().is_err());
}

#[test]
fn a_directory_set_up_for_another_node_root_or_server_is_an_obstacle() {
    let lab = Lab::new();
    let directory = Directory::in_network_dir(&lab.dir.path().join("regtest"));
    let set_up = |byte: u8, generation: u32, server: ServerKey| {
        let secret = secret(byte);
        let (node, network) = (secret.node_id(), Network::Regtest);
        let root = secret.backstop_root(network, generation);
        let grant = backstop_protocol::grant::Grant {
            access_key: crate::keys::Keys::derive(&root).access.access_key(),
            scope: backstop_protocol::grant::Scope::Append,
            node,
            network,
            serial: 1,
            expires_at: None,
        };
        let _ = fs::remove_dir_all(directory.path());
        directory.create().unwrap();
        KeyFile {
            node,
            network,
            generation,
            root,
        }
        .write(&directory.key_path())
        .unwrap();
        let config = Config {
            version: 1,
            node,
            network,
            require: RequireConfig::All,
            proxy: None,
            database: None,
            files: FileName::defaults(),
            outage: OutageConfig::default(),
            shadow: ShadowConfig::default(),
            grant: secret.node_key().sign_grant(&grant),
            servers: vec![ServerConfig {
                url: "http://server".to_owned(),
                key: server,
            }],
        };
        directory.write_config(&config).unwrap();
    };
    set_up(1, 1, KEY);
    assert!(lab.look().unwrap().configured);
    for (byte, generation, server) in [(2, 1, KEY), (1, 2, KEY), (1, 1, ServerKey([8; 32]))] {
        set_up(byte, generation, server);
        assert!(lab.look().err().unwrap().contains("Move it away"));
    }
}
