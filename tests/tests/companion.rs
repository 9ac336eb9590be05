//! What lightning-cli and lightningd's log learn of the backup, from a process that the hook does not depend on.

use anyhow::{Context, Result, ensure};
use backstop_tests::{
    binaries::binary,
    json_rpc::request,
    node::Node,
    plugin::{Plugin, Program},
    scene::Scene,
    signer::Signer,
    wallet::Journal,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The companion of a node, as lightningd starts it.
struct Companion {
    plugin: Plugin,
    calls: u32,
    _program: TempDir,
}

impl Companion {
    fn start(node: &Node) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("backstop-companion");
        std::fs::copy(binary("backstop")?, &path)?;
        // As packages have them: side by side.
        std::os::unix::fs::symlink(binary("backstop")?, dir.path().join("backstop"))?;
        let mut companion = Self {
            plugin: Plugin::start(&Program::new(path), &node.network_dir())?,
            calls: 0,
            _program: dir,
        };
        let manifest = companion.call("getmanifest", &json!({}))?;
        ensure!(
            manifest.pointer("/result/hooks") == Some(&json!([])),
            "{manifest}"
        );
        companion.call(
            "init",
            &json!({
                "options": { "backstop-watch-seconds": 1 },
                "configuration": { "lightning-dir": node.network_dir(), "rpc-file": "lightning-rpc" },
            }),
        )?;
        Ok(companion)
    }

    /// The whole answer to a request.
    fn call(&mut self, method: &str, params: &Value) -> Result<Value> {
        self.calls += 1;
        let id = format!("test:{method}#{}", self.calls);
        self.plugin
            .send(&request(&id, method, params.to_string().as_bytes()))?;
        let answer = self.plugin.reply(&format!("\"{id}\""))?;
        Ok(json!({ "result": answer.get("result"), "error": answer.get("error") }))
    }

    fn result(&mut self, method: &str) -> Result<Value> {
        let answer = self.call(method, &json!([]))?;
        let result = answer.get("result").filter(|result| !result.is_null());
        result.cloned().with_context(|| format!("{method}: {answer}"))
    }

    /// Waits for the next word on protection: its notification, and the log's level.
    fn told(&mut self) -> Result<(bool, String)> {
        loop {
            let message = self.plugin.next_message()?;
            if message.get("method") != Some(json!("backstop_protection")) {
                continue;
            }
            let payload = message.get("params").context("no payload")?;
            let protected = payload.get("protected") == Some(&Value::Bool(true));
            let problems = payload
                .get("problems")
                .and_then(Value::as_array)
                .context("no problems")?;
            ensure!(protected == problems.is_empty(), "{payload}");
            // The log line comes before its notification.
            let (level, _) = self.plugin.log().last().context("nothing was logged")?;
            return Ok((protected, level.clone()));
        }
    }
}

#[test]
fn the_loss_of_protection_and_its_return_are_told_in_the_log_and_to_other_plugins() -> Result<()> {
    let mut scene = Scene::new(41, Journal::Delete)?;
    let _socket = Signer::of(&scene.node)?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    let mut companion = Companion::start(&scene.node)?;
    assert_eq!(companion.told()?, (true, "info".to_owned()));
    scene.server.kill()?;
    assert_eq!(companion.told()?, (false, "error".to_owned()));
    scene.server.restart()?;
    assert_eq!(companion.told()?, (true, "warn".to_owned()));
    companion.plugin.close_stdin();
    assert_eq!(companion.plugin.wait()?, 0);
    lightningd.pay()?;
    lightningd.stop(0)?;
    scene.check()
}

#[test]
fn lightning_cli_gets_what_the_command_line_prints() -> Result<()> {
    // The server of an even seed asks for no roll-up by itself.
    let mut scene = Scene::new(42, Journal::Delete)?;
    let _socket = Signer::of(&scene.node)?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    let mut companion = Companion::start(&scene.node)?;
    let status = companion.result("backstop-status")?;
    assert_eq!(status["protected"], json!(true), "{status}");
    assert_eq!(
        status["servers"][0]["account"]["roll_up"],
        json!(false),
        "{status}"
    );
    let ordered = companion.result("backstop-rollup")?;
    assert_eq!(ordered["servers"][0]["asks"], json!(true), "{ordered}");
    let status = companion.result("backstop-status")?;
    assert_eq!(
        status["servers"][0]["account"]["roll_up"],
        json!(true),
        "{status}"
    );
    let history = companion.result("backstop-history")?;
    ensure!(
        history["oldest"].is_u64() && history["head"]["seq"].is_u64(),
        "{history}"
    );
    let drill = companion.result("backstop-verify")?;
    assert_eq!(drill["restorable"], json!(true), "{drill}");

    let unknown = companion.call("backstop-nonsense", &json!({}))?;
    assert_eq!(unknown["error"]["code"], json!(-32601), "{unknown}");
    scene.server.kill()?;
    let failed = companion.call("backstop-history", &json!({}))?;
    ensure!(
        failed["error"]["message"]
            .as_str()
            .is_some_and(|said| said.len() > 20),
        "{failed}"
    );
    scene.server.restart()?;
    lightningd.pay()?;
    lightningd.stop(0)?;
    scene.check()
}
