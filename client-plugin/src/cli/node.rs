//! Which node a command is about: the options of lightning-cli, with the same meaning and defaults.

use super::Here;
use crate::cln::{
    NodeDir,
    locate::{Asked, LocateError},
};
use backstop_protocol::id::Network;
use std::path::PathBuf;

/// Options that name a node.
#[derive(Debug, Default, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "one for each flag of lightning-cli")]
#[group(skip)]
pub struct NodeArgs {
    /// The node's lightning-dir [default: ~/.lightning].
    #[arg(long, value_name = "DIR")]
    pub lightning_dir: Option<PathBuf>,
    /// Its network: bitcoin, testnet, testnet4, signet or regtest [default: what DIR/config says, else bitcoin].
    #[arg(long, value_name = "NET", group = "which_network")]
    pub network: Option<Network>,
    /// The same as --network=bitcoin.
    #[arg(long, group = "which_network")]
    pub mainnet: bool,
    /// The same as --network=testnet.
    #[arg(long, group = "which_network")]
    pub testnet: bool,
    /// The same as --network=testnet4.
    #[arg(long, group = "which_network")]
    pub testnet4: bool,
    /// The same as --network=signet.
    #[arg(long, group = "which_network")]
    pub signet: bool,
    /// The same as --network=regtest.
    #[arg(long, group = "which_network")]
    pub regtest: bool,
    /// lightningd's configuration file, where it is started with --conf.
    #[arg(long, value_name = "FILE")]
    pub conf: Option<PathBuf>,
    /// lightningd's socket, where it is started with --rpc-file.
    #[arg(long, value_name = "FILE")]
    pub rpc_file: Option<PathBuf>,
}

impl NodeArgs {
    /// The node that is meant.
    pub fn find(&self, here: &Here) -> Result<NodeDir, LocateError> {
        let short = [
            (self.mainnet, Network::Bitcoin),
            (self.testnet, Network::Testnet),
            (self.testnet4, Network::Testnet4),
            (self.signet, Network::Signet),
            (self.regtest, Network::Regtest),
        ];
        let short = short
            .into_iter()
            .find_map(|(said, network)| said.then_some(network));
        let asked = Asked {
            lightning_dir: self.lightning_dir.clone(),
            network: self.network.or(short),
            conf: self.conf.clone(),
            rpc_file: self.rpc_file.clone(),
        };
        NodeDir::find(&asked, here.home.as_deref(), &here.cwd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        node: NodeArgs,
    }

    fn network(args: &[&str]) -> Option<Network> {
        let cli = Cli::try_parse_from([&["backstop"], args].concat()).ok()?;
        let here = Here {
            home: None,
            cwd: "/nowhere".into(),
            program: "/backstop".into(),
        };
        Some(cli.node.find(&here).unwrap().network())
    }

    #[test]
    fn a_network_is_named_once_in_one_of_two_ways() {
        assert_eq!(network(&[]), Some(Network::Bitcoin));
        for known in Network::ALL {
            assert_eq!(network(&["--network", known.as_str()]), Some(known));
            let short = match known {
                Network::Bitcoin => "--mainnet".to_owned(),
                other => format!("--{other}"),
            };
            assert_eq!(network(&[&short]), Some(known));
        }
        assert_eq!(network(&["--network", "liquid"]), None);
        assert_eq!(network(&["--network", "regtest", "--signet"]), None);
    }
}
