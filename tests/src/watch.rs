//! What a test waits for and looks at while a node goes on.

use crate::{lightningd::Lightningd, scene::Scene};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::{Duration, Instant};

/// How long something in the background may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until something is so, paying meanwhile: a roll-up begins with a batch.
pub fn pay_until(
    lightningd: &mut Lightningd,
    what: &str,
    mut is_so: impl FnMut(&mut Lightningd) -> bool,
) -> Result<()> {
    let started = Instant::now();
    while !is_so(lightningd) {
        ensure!(
            started.elapsed() < PATIENCE,
            "never: {what}\n{}",
            lightningd.plugin().says()
        );
        lightningd.pay()?;
    }
    Ok(())
}

/// Waits until the plugin says it, paying meanwhile.
pub fn pay_until_said(lightningd: &mut Lightningd, text: &str) -> Result<()> {
    pay_until(lightningd, text, |lightningd| says(lightningd, text))
}

/// Waits until the plugin says it once more, paying meanwhile.
pub fn pay_until_said_again(lightningd: &mut Lightningd, text: &str) -> Result<()> {
    let before = lines(lightningd, text).len();
    pay_until(lightningd, text, |lightningd| {
        lines(lightningd, text).len() > before
    })
}

/// Whether the plugin has said it.
pub fn says(lightningd: &mut Lightningd, text: &str) -> bool {
    !lines(lightningd, text).is_empty()
}

/// What the plugin said with this text in it: level and line.
pub fn lines(lightningd: &mut Lightningd, text: &str) -> Vec<(String, String)> {
    let log = lightningd.plugin().log().iter();
    log.filter(|(_, line)| line.contains(text)).cloned().collect()
}

/// `backstop status --json`.
pub fn status(scene: &Scene) -> Result<Value> {
    let spoken = scene.node.command(&["status", "--json"])?;
    serde_json::from_str(&spoken.stdout).context(spoken.stdout)
}

/// The node's account on its server, as any reader sees it.
pub fn account(scene: &Scene) -> Result<Value> {
    let status = status(scene)?;
    let account = status.pointer("/servers/0/account");
    account
        .cloned()
        .with_context(|| format!("no account in {status}"))
}

/// A number in it.
pub fn number(value: &Value, pointer: &str) -> Result<u64> {
    value
        .pointer(pointer)
        .and_then(Value::as_u64)
        .with_context(|| format!("no {pointer} in {value}"))
}

/// A clean stop; what the plugin said in its life.
pub fn stop(lightningd: Lightningd) -> Result<String> {
    let (status, says) = lightningd.stop(0)?;
    ensure!(status == 0, "the plugin ended with {status}\n{says}");
    Ok(says)
}

/// Changes what a node's configuration says, while nobody reads it.
pub fn configure(scene: &Scene, from: &str, to: &str) -> Result<()> {
    let path = scene.node.network_dir().join("backstop/config.toml");
    let text = std::fs::read_to_string(&path)?;
    ensure!(text.contains(from), "{text}");
    Ok(std::fs::write(path, text.replace(from, to))?)
}
