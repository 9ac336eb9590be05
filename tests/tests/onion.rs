//! A server that only a SOCKS5 proxy can find: every command goes through it, names and all.

use anyhow::{Result, ensure};
use backstop_tests::{
    binaries,
    device::Device,
    lightningd::{Lightningd, Options},
    node::{Node, backstop, restored_database},
    oracle::Oracle,
    plugin::Program,
    servers::Server,
    socks_proxy::SocksProxy,
};

/// No machine can look this up by itself: a connection that goes past the proxy fails.
const NAME: &str = "backstopbackstopbackstopbackstopbackstopbackstopbackstop.onion";

#[test]
fn every_command_reaches_an_onion_service_through_the_proxy_alone() -> Result<()> {
    let server = Server::start()?;
    let proxy = SocksProxy::start(NAME, server.address())?;
    let node = Node::new(41)?;
    let url = format!("http://{NAME}");
    let mut before = 0;
    let mut more = |what: &str| -> Result<()> {
        let now = proxy.connections();
        ensure!(now > before, "{what} did not go through the proxy");
        before = now;
        Ok(())
    };

    let said = node.command(&["setup", "--server", &url])?.failure()?;
    ensure!(
        said.stderr.contains("--proxy socks5h://127.0.0.1:9050"),
        "{said:?}"
    );
    node.command(&["setup", "--server", &url, "--proxy", proxy.url()])?
        .success()?;
    more("setup")?;
    let config = std::fs::read_to_string(node.network_dir().join("backstop/config.toml"))?;
    ensure!(config.contains("timeout_seconds = 30"), "{config}");

    let oracle = Oracle::default();
    let mut options = Options::new(Program::new(binaries::binary("backstop")?), 1);
    options.oracle = Some(oracle.clone());
    let mut lightningd = Lightningd::start(&node, &options)?;
    lightningd.pay()?;
    more("the plugin")?;
    let device = Device::granted(&node)?;
    more("grant")?;
    device.catch_up(&["--proxy", proxy.url()])?.success()?;
    more("mirror")?;
    lightningd.stop(0)?;
    for command in [
        &["status"][..],
        &["verify"],
        &["history"],
        &["receipt"],
        &["grants"],
    ] {
        node.command(command)?.success()?;
        more(command[0])?;
    }

    let to = tempfile::tempdir()?;
    let to = to.path().join("restored");
    let (secret, to_text) = (node.hsm_secret(), to.to_string_lossy().into_owned());
    let secret = secret.to_string_lossy();
    let restore = [
        "restore",
        "--server",
        &url,
        "--network",
        "regtest",
        "--hsm-secret",
        &secret,
        "--to",
        &to_text,
    ];
    backstop(&restore)?.failure()?;
    let last = [&restore[..], &["--proxy", proxy.url()]].concat();
    let said = backstop(&last)?.success()?;
    ensure!(said.stdout.contains("last heard from"), "{said:?}");
    more("restore")?;
    oracle.check(&restored_database(&to, node.network()))?;
    node.command(&["adopt"])?.success()?;
    more("adopt")
}
