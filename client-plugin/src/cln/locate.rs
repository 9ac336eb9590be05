//! Where a node's files are: the same options, defaults and configuration files as lightning-cli
//! (`common/configdir.c`), so that both mean the same node.

use super::config::{self, ConfigError, Setting};
use backstop_protocol::id::Network;
use std::path::{Path, PathBuf};

/// What a person said; everything else is a default or stands in a configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `--lightning-dir`; default `~/.lightning`.
    pub lightning_dir: Option<PathBuf>,
    /// `--network` and its short forms; default what the configuration says, else bitcoin.
    pub network: Option<Network>,
    /// `--conf`: this file instead of the two in the lightning-dir.
    pub conf: Option<PathBuf>,
    /// `--rpc-file`; default `lightning-rpc` in the network's directory.
    pub rpc_file: Option<PathBuf>,
}

/// What a node keeps its database in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wallet {
    /// An SQLite file.
    Sqlite(PathBuf),
    /// A server, for which CLN calls no `db_write` hook: such a node cannot be backed up by Backstop.
    Postgres,
}

/// The places of one node on one network. Every path is absolute if the present directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeDir {
    base: PathBuf,
    network: Network,
    rpc: PathBuf,
    pidfile: PathBuf,
    wallet: Wallet,
}

/// Why it is unclear which node is meant.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// A configuration file cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A network that Backstop does not know.
    #[error(
        "{file} line {line}: {name:?} is not a network that Backstop knows (bitcoin, testnet, testnet4, signet, regtest)"
    )]
    Network {
        /// The configuration file.
        file: PathBuf,
        /// The line.
        line: usize,
        /// What stands there.
        name: String,
    },
    /// An option that CLN does not allow in that file.
    #[error("{file} line {line}: CLN does not permit `{name}` in this file")]
    NotPermitted {
        /// The configuration file.
        file: PathBuf,
        /// The line.
        line: usize,
        /// The option.
        name: String,
    },
    /// The plugin's directory is not one of a network.
    #[error("{0} is not the directory of a network inside a lightning-dir")]
    NotNetDir(PathBuf),
}

impl NodeDir {
    /// Finds the node that `asked` means, for a person whose home and present directory these are.
    pub fn find(asked: &Asked, home: Option<&Path>, cwd: &Path) -> Result<Self, LocateError> {
        let default_base = home.map_or_else(|| cwd.to_owned(), |home| home.join(".lightning"));
        let mut base = asked
            .lightning_dir
            .as_ref()
            .map_or(default_base, |dir| cwd.join(dir));
        let mut settings;
        let network;
        if let Some(conf) = &asked.conf {
            settings = config::read(&cwd.join(conf), true)?;
            if let (None, Some(dir)) = (&asked.lightning_dir, last(&settings, "lightning-dir")) {
                base = cwd.join(dir);
            }
            network = choose(asked.network, &settings)?;
        } else {
            settings = config::read(&base.join("config"), false)?;
            forbid(&settings, &["lightning-dir", "conf"])?;
            network = choose(asked.network, &settings)?;
            let own = config::read(&base.join(network.as_str()).join("config"), false)?;
            forbid(
                &own,
                &[
                    "lightning-dir",
                    "conf",
                    "network",
                    "testnet",
                    "testnet4",
                    "signet",
                    "regtest",
                    "mainnet",
                ],
            )?;
            settings.extend(own);
        }
        let net = base.join(network.as_str());
        let rpc = asked
            .rpc_file
            .clone()
            .or_else(|| last(&settings, "rpc-file").map(PathBuf::from));
        let rpc = net.join(rpc.unwrap_or_else(|| "lightning-rpc".into()));
        // lightningd opens both from inside the network's directory.
        let pidfile = last(&settings, "pid-file").map_or_else(
            || base.join(format!("lightningd-{network}.pid")),
            |path| net.join(path),
        );
        let wallet = match last(&settings, "wallet") {
            Some(dsn) => wallet(dsn, &net),
            None => Wallet::Sqlite(net.join("lightningd.sqlite3")),
        };
        Ok(Self {
            base,
            network,
            rpc,
            pidfile,
            wallet,
        })
    }

    /// The node whose network's directory this is: where lightningd starts its plugins.
    pub fn of_net_dir(net: &Path) -> Result<Self, LocateError> {
        let not_one = || LocateError::NotNetDir(net.to_owned());
        let name = net
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(not_one)?;
        let asked = Asked {
            lightning_dir: Some(net.parent().ok_or_else(not_one)?.to_owned()),
            network: Some(name.parse().map_err(|_| not_one())?),
            ..Asked::default()
        };
        Self::find(&asked, None, net)
    }

    /// The lightning-dir.
    #[must_use]
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> Network {
        self.network
    }

    /// The network's directory in the lightning-dir.
    #[must_use]
    pub fn net(&self) -> PathBuf {
        self.base.join(self.network.as_str())
    }

    /// The socket of lightningd's RPC.
    #[must_use]
    pub fn rpc(&self) -> &Path {
        &self.rpc
    }

    /// The file that lightningd locks while it runs.
    #[must_use]
    pub fn pidfile(&self) -> &Path {
        &self.pidfile
    }

    /// What holds the database, as far as the configuration files say; `--wallet` on lightningd's own command line
    /// is not seen here.
    #[must_use]
    pub fn wallet(&self) -> &Wallet {
        &self.wallet
    }

    /// The file of the node's secret; nodes with a remote signer have none.
    #[must_use]
    pub fn hsm_secret(&self) -> PathBuf {
        self.net().join("hsm_secret")
    }

    /// Backstop's own directory.
    #[must_use]
    pub fn backstop(&self) -> PathBuf {
        self.net().join("backstop")
    }
}

fn last<'a>(settings: &'a [Setting], name: &str) -> Option<&'a str> {
    settings
        .iter()
        .rev()
        .find(|setting| setting.name == name)?
        .value
        .as_deref()
}

/// The command line goes first; then the last line that names a network.
fn choose(asked: Option<Network>, settings: &[Setting]) -> Result<Network, LocateError> {
    if let Some(network) = asked {
        return Ok(network);
    }
    for setting in settings.iter().rev() {
        let name = match (setting.name.as_str(), setting.value.as_deref()) {
            ("mainnet", None) => "bitcoin",
            ("network", Some(name)) | (name @ ("testnet" | "testnet4" | "signet" | "regtest"), None) => name,
            _ => continue,
        };
        return name.parse().map_err(|_| LocateError::Network {
            file: setting.file.clone(),
            line: setting.line,
            name: name.to_owned(),
        });
    }
    Ok(Network::Bitcoin)
}

fn forbid(settings: &[Setting], names: &[&str]) -> Result<(), LocateError> {
    match settings
        .iter()
        .find(|setting| names.contains(&setting.name.as_str()))
    {
        None => Ok(()),
        Some(setting) => Err(LocateError::NotPermitted {
            file: setting.file.clone(),
            line: setting.line,
            name: setting.name.clone(),
        }),
    }
}

/// What the option `wallet` means to a node in `net`: `sqlite3://FILE`, or `sqlite3://FILE:REPLICA`; everything else
/// is a database server.
#[must_use]
pub fn wallet(dsn: &str, net: &Path) -> Wallet {
    match dsn.strip_prefix("sqlite3://") {
        Some(paths) => Wallet::Sqlite(net.join(paths.split(':').next().unwrap_or(paths))),
        None => Wallet::Postgres,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Home(tempfile::TempDir);

    impl Home {
        fn new() -> Self {
            let home = Self(tempfile::tempdir().unwrap());
            for network in Network::ALL {
                std::fs::create_dir_all(home.lightning().join(network.as_str())).unwrap();
            }
            home
        }

        fn lightning(&self) -> PathBuf {
            self.0.path().join(".lightning")
        }

        fn write(&self, file: &str, text: &str) {
            std::fs::write(self.lightning().join(file), text).unwrap();
        }

        fn find(&self, asked: &Asked) -> Result<NodeDir, LocateError> {
            NodeDir::find(asked, Some(self.0.path()), Path::new("/somewhere"))
        }
    }

    fn network(network: Network) -> Asked {
        Asked {
            network: Some(network),
            ..Asked::default()
        }
    }

    #[test]
    fn without_a_word_it_is_the_bitcoin_node_in_the_home_directory() {
        let home = Home::new();
        let dir = home.find(&Asked::default()).unwrap();
        let base = home.lightning();
        assert_eq!(dir.base(), base);
        assert_eq!(dir.net(), base.join("bitcoin"));
        assert_eq!(dir.rpc(), base.join("bitcoin/lightning-rpc"));
        assert_eq!(dir.pidfile(), base.join("lightningd-bitcoin.pid"));
        let file = base.join("bitcoin/lightningd.sqlite3");
        assert_eq!(dir.wallet(), &Wallet::Sqlite(file));
        assert_eq!(dir.hsm_secret(), base.join("bitcoin/hsm_secret"));
        assert_eq!(dir.backstop(), base.join("bitcoin/backstop"));
    }

    #[test]
    fn a_relative_lightning_dir_starts_where_the_person_is() {
        let asked = Asked {
            lightning_dir: Some("node".into()),
            ..network(Network::Regtest)
        };
        let dir = NodeDir::find(&asked, None, Path::new("/somewhere")).unwrap();
        assert_eq!(dir.net(), Path::new("/somewhere/node/regtest"));
    }

    #[test]
    fn the_configuration_names_the_network_and_the_command_line_overrules_it() {
        let home = Home::new();
        for (text, want) in [
            ("network=regtest\n", Network::Regtest),
            ("regtest\nnetwork=signet  \n", Network::Signet),
            ("network=signet\ntestnet4\n", Network::Testnet4),
            ("network=signet\nmainnet\n", Network::Bitcoin),
            ("#network=signet\nalias=x\n", Network::Bitcoin),
        ] {
            home.write("config", text);
            assert_eq!(home.find(&Asked::default()).unwrap().network(), want, "{text}");
            assert_eq!(
                home.find(&network(Network::Testnet)).unwrap().network(),
                Network::Testnet
            );
        }
    }

    #[test]
    fn the_networks_own_file_counts_after_the_common_one() {
        let home = Home::new();
        home.write("config", "regtest\nrpc-file=common\n");
        home.write(
            "regtest/config",
            "rpc-file=own\npid-file=pid\nwallet=sqlite3:///a/db:/b/copy\n",
        );
        let dir = home.find(&Asked::default()).unwrap();
        let net = home.lightning().join("regtest");
        assert_eq!(dir.rpc(), net.join("own"));
        assert_eq!(dir.pidfile(), net.join("pid"));
        assert_eq!(dir.wallet(), &Wallet::Sqlite("/a/db".into()));
        let asked = Asked {
            rpc_file: Some("/run/rpc".into()),
            ..Asked::default()
        };
        assert_eq!(home.find(&asked).unwrap().rpc(), Path::new("/run/rpc"));
    }

    #[test]
    fn a_postgres_wallet_is_told_apart() {
        let home = Home::new();
        home.write("config", "wallet=postgres://user:password@host/db\n");
        assert_eq!(home.find(&Asked::default()).unwrap().wallet(), &Wallet::Postgres);
    }

    #[test]
    fn a_named_configuration_file_replaces_both_others() {
        let home = Home::new();
        home.write("config", "signet\n");
        home.write("other", "regtest\nlightning-dir=/srv/node\n");
        let conf = Some(home.lightning().join("other"));
        let asked = Asked {
            conf,
            ..Asked::default()
        };
        assert_eq!(home.find(&asked).unwrap().net(), Path::new("/srv/node/regtest"));
        let asked = Asked {
            lightning_dir: Some("/here".into()),
            ..asked
        };
        assert_eq!(home.find(&asked).unwrap().net(), Path::new("/here/regtest"));
    }

    #[test]
    fn what_cln_does_not_permit_is_an_error_that_names_the_line() {
        let home = Home::new();
        for (file, text) in [
            ("config", "alias=x\nlightning-dir=/x\n"),
            ("bitcoin/config", "alias=x\nnetwork=regtest\n"),
            ("bitcoin/config", "alias=x\nregtest\n"),
            ("config", "alias=x\nnetwork=liquid\n"),
        ] {
            home.write(file, text);
            let error = home.find(&Asked::default()).unwrap_err().to_string();
            assert!(error.contains("line 2"), "{error}");
            home.write(file, "");
        }
    }

    #[test]
    fn a_plugin_finds_its_node_from_the_directory_it_is_started_in() {
        let home = Home::new();
        let net = home.lightning().join("regtest");
        let dir = NodeDir::of_net_dir(&net).unwrap();
        assert_eq!((dir.net(), dir.network()), (net, Network::Regtest));
        assert!(NodeDir::of_net_dir(&home.lightning()).is_err());
    }
}
