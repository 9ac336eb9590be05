//! A second process that lightningd may start: the same program under a name that ends in `-companion`.
//!
//! It gives `lightning-cli` commands of Backstop's and tells lightningd's log, and plugins that subscribe, when protection is
//! lost or comes back. The process that serves the hook has neither commands nor notifications, because nothing there may
//! ever wait (CLN reference 2.2, 2.4); this one may wait and may die without harm. What it answers is what the command line
//! prints with `--json`: it runs it.

mod call;
mod watch;

use crate::{
    cln::NodeDir,
    plugin::{
        input::{Incoming, Input},
        stdio::{self, Level},
    },
};
use call::{Backstop, COMMANDS, Failed};
use serde_json::{Value, json};
use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// What the name of the program ends in.
const NAME_END: &str = "-companion";
/// lightningd's option for how often protection is looked at.
const OPTION: &str = "backstop-watch-seconds";
/// How often, where nobody says otherwise, seconds.
const WATCH_SECONDS: u64 = 60;
/// The notification that other plugins can subscribe to.
const TOPIC: &str = "backstop_protection";
/// Commands at once: each is a process of its own.
const AT_ONCE: usize = 4;

/// Whether a program of this name is the companion and not the plugin of the hook.
#[must_use]
pub fn is_companion(program: &Path) -> bool {
    program
        .file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.ends_with(NAME_END))
}

/// Serves until lightningd closes its standard input. `network_dir` is where lightningd started `program`.
#[must_use]
pub fn run(network_dir: &Path, program: &Path) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            stdio::log(
                Level::Warn,
                &format!("backstop's companion cannot start: {error}"),
            );
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        match Input::of_process() {
            Ok(input) => serve(input, network_dir, program).await,
            Err(error) => {
                stdio::log(
                    Level::Warn,
                    &format!("backstop's companion cannot read its input: {error}"),
                );
                ExitCode::FAILURE
            }
        }
    });
    // A command that still runs has nobody left to answer.
    runtime.shutdown_background();
    code
}

async fn serve(mut input: Input, network_dir: &Path, program: &Path) -> ExitCode {
    let mut backstop = None;
    let limit = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let frame = match input.recv().await {
            Incoming::End => return ExitCode::SUCCESS,
            Incoming::Broken(reason) => {
                stdio::log(
                    Level::Warn,
                    &format!("backstop's companion cannot go on: {reason}"),
                );
                return ExitCode::FAILURE;
            }
            Incoming::Frame(frame) => frame,
        };
        let Ok(message) = serde_json::from_slice::<Value>(&frame) else {
            stdio::log(
                Level::Warn,
                "backstop's companion was sent something that is no JSON",
            );
            continue;
        };
        let method = message.get("method").and_then(Value::as_str).unwrap_or_default();
        let Some(id) = message.get("id").cloned() else {
            continue;
        };
        match method {
            "getmanifest" => stdio::reply(&id, &manifest()),
            "init" => {
                let found = Backstop::find(network_dir, program, rpc_file(&message));
                stdio::reply(&id, &json!({}));
                match found {
                    Ok(found) => {
                        let found = Arc::new(found);
                        tokio::spawn(watch::watch(Arc::clone(&found), every(&message)));
                        backstop = Some(found);
                    }
                    Err(error) => stdio::log(
                        Level::Warn,
                        &format!("backstop's companion knows no node here: {error}"),
                    ),
                }
            }
            _ => match (
                COMMANDS.iter().find(|command| command.method == method),
                &backstop,
            ) {
                (None, _) => stdio::refuse(&id, Failed::UNKNOWN, &format!("no such command: {method}")),
                (Some(_), None) => {
                    stdio::refuse(&id, Failed::NOT_DONE, "not ready yet: try again in a moment");
                }
                (Some(command), Some(backstop)) => {
                    let (backstop, limit) = (Arc::clone(backstop), Arc::clone(&limit));
                    tokio::spawn(async move {
                        let _turn = limit.acquire().await;
                        match backstop.call(command).await {
                            Ok(result) => stdio::reply(&id, &result),
                            Err(Failed(reason)) => stdio::refuse(&id, Failed::NOT_DONE, &reason),
                        }
                    });
                }
            },
        }
    }
}

fn manifest() -> Value {
    let methods: Vec<_> = COMMANDS
        .iter()
        .map(|command| json!({ "name": command.method, "usage": "", "description": command.about }))
        .collect();
    json!({
        "options": [{
            "name": OPTION,
            "type": "int",
            "default": WATCH_SECONDS,
            "description": "How often backstop's companion looks whether this node is protected, in seconds",
        }],
        "rpcmethods": methods,
        "hooks": [],
        "subscriptions": [],
        "notifications": [{ "method": TOPIC }],
        "dynamic": true,
        "nonnumericids": true,
    })
}

/// The name of lightningd's socket, as `init` has it.
fn rpc_file(init: &Value) -> Option<&str> {
    init.pointer("/params/configuration/rpc-file")?.as_str()
}

fn every(init: &Value) -> Duration {
    let said = init
        .pointer("/params/options")
        .and_then(|options| options.get(OPTION)?.as_u64());
    Duration::from_secs(said.unwrap_or(WATCH_SECONDS).max(1))
}

impl Backstop {
    /// The command line for the node of this directory.
    fn find(network_dir: &Path, program: &Path, rpc_file: Option<&str>) -> anyhow::Result<Self> {
        let files = NodeDir::of_net_dir(network_dir)?;
        let rpc = rpc_file.map_or_else(|| files.rpc().to_owned(), |name| network_dir.join(name));
        Ok(Self::new(program, &files, &rpc))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_that_ends_so_is_the_companion() {
        assert!(is_companion(Path::new("/usr/bin/backstop-companion")));
        for hook in [
            "/usr/bin/backstop",
            "/x-companion/backstop",
            "/usr/bin/backstop-companion2",
            "/",
        ] {
            assert!(!is_companion(Path::new(hook)), "{hook}");
        }
    }

    #[test]
    fn it_registers_no_hook_and_each_command_with_a_word_on_it() {
        let manifest = manifest();
        assert_eq!(manifest["hooks"], json!([]));
        let methods = manifest["rpcmethods"].as_array().unwrap();
        assert_eq!(methods.len(), COMMANDS.len());
        assert!(methods.iter().all(|method| {
            method["description"]
                .as_str()
                .is_some_and(|about| about.len() > 10)
        }));
    }

    #[test]
    fn the_watch_is_as_often_as_the_option_says_and_never_without_a_pause() {
        let init = |value: Value| json!({ "params": { "options": { (OPTION): value } } });
        assert_eq!(every(&init(json!(5))), Duration::from_secs(5));
        assert_eq!(every(&init(json!(0))), Duration::from_secs(1));
        assert_eq!(every(&json!({})), Duration::from_secs(WATCH_SECONDS));
    }
}
