//! How lightningd is told to run the plugin, and who else answers the hook.

use super::finding::Finding;
use crate::cln::{
    NodeDir, Rpc, config,
    rpc::{Program, RpcError},
};
use memchr::memmem;
use std::{fs, path::Path};

/// The plugins that come with lightningd lie there; none of them answers `db_write`.
const BUILT_IN: &str = "libexec/c-lightning/plugins";
/// Longer files are not searched, bytes.
const SEARCHED_MAX: u64 = 128 << 20;

/// What lightningd's configuration files say, where it does not run.
pub(super) fn configured(files: &NodeDir) -> Finding {
    let check = "config";
    let read: Result<Vec<_>, _> = [files.base(), &files.net()]
        .iter()
        .map(|dir| config::read(&dir.join("config"), false))
        .collect();
    let settings = match read {
        Ok(settings) => settings.concat(),
        Err(error) => return Finding::wrong(check, error.to_string()),
    };
    let ours = |name: &str| {
        settings.iter().find(|setting| {
            let path = setting.value.as_deref().map(Path::new);
            setting.name == name
                && path
                    .and_then(Path::file_stem)
                    .is_some_and(|stem| stem == "backstop")
        })
    };
    let important = "Without important-plugin lightningd goes on without a backup if the plugin ever dies.";
    match (ours("important-plugin"), ours("plugin")) {
        (Some(found), _) => {
            let path = found.value.as_deref().unwrap_or_default();
            if Path::new(path).is_absolute() && !Path::new(path).exists() {
                return Finding::wrong(
                    check,
                    format!(
                        "{} line {} names {path}, which is not there: lightningd will not start. Correct the path.",
                        found.file.display(),
                        found.line
                    ),
                );
            }
            Finding::ok(
                check,
                format!(
                    "{} line {} has important-plugin",
                    found.file.display(),
                    found.line
                ),
            )
        }
        (None, Some(found)) => Finding::wrong(
            check,
            format!(
                "{} line {} says plugin where it must say important-plugin. {important}",
                found.file.display(),
                found.line
            ),
        ),
        (None, None) => Finding::warning(
            check,
            format!(
                "no important-plugin line for backstop stands in the configuration files below {}. Where lightningd gets it in \
                 another way, run this again while it runs. {important}",
                files.base().display()
            ),
        ),
    }
}

/// What a running lightningd says.
pub(super) fn running(rpc: &Rpc) -> Vec<Finding> {
    [replica(rpc), others(rpc)]
        .into_iter()
        .map(|(check, found)| {
            found.unwrap_or_else(|error| {
                Finding::skipped(check, format!("lightningd could not be asked: {error}"))
            })
        })
        .collect()
}

/// CLN's own second copy of the database (CLN reference 3.4).
fn replica(rpc: &Rpc) -> (&'static str, Result<Finding, RpcError>) {
    let check = "replica";
    let judge = |wallets: Vec<String>| {
        let replica = wallets
            .iter()
            .filter_map(|wallet| wallet.strip_prefix("sqlite3://"))
            .find_map(|paths| paths.split_once(':'));
        match replica {
            Some((_, replica)) => Finding::warning(
                check,
                format!(
                    "lightningd keeps a replica at {replica}. If the main database is ever missing at a start, lightningd wipes the \
                     replica with an empty one: after a loss put a database in its place (backstop restore) before the first start."
                ),
            ),
            None => Finding::ok(check, "lightningd keeps no replica of its own"),
        }
    };
    (check, rpc.listconfigs("wallet").map(judge))
}

/// Another plugin of the hook: lightningd asks all of them at once, and a refusal of any one stops the node after others said yes;
/// one that answers other hooks too makes lightningd commit what nobody was told (CLN reference 2.2).
fn others(rpc: &Rpc) -> (&'static str, Result<Finding, RpcError>) {
    let check = "plugins";
    let judge = |programs: Vec<Program>| {
        let names: Vec<_> = programs
            .iter()
            .filter(|program| speaks_of_the_hook(&program.name))
            .map(|program| program.name.display().to_string())
            .collect();
        if names.is_empty() {
            return Finding::ok(check, "no other plugin seems to answer db_write");
        }
        Finding::warning(
            check,
            format!(
                "{} seems to answer db_write too. Each such plugin can stop the node by itself; and one that answers another hook \
                 as well makes lightningd commit changes that no backup is told of. Take it out unless you know that it does not.",
                names.join(", ")
            ),
        )
    };
    (check, rpc.plugins().map(judge))
}

/// Whether a plugin that is not ours, and does not come with lightningd, has the hook's name in its file.
fn speaks_of_the_hook(program: &Path) -> bool {
    let ours = program
        .file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name == "backstop" || name.starts_with("backstop-"));
    let short = fs::metadata(program).is_ok_and(|found| found.is_file() && found.len() <= SEARCHED_MAX);
    if ours || !short || program.to_string_lossy().contains(BUILT_IN) {
        return false;
    }
    fs::read(program).is_ok_and(|bytes| memmem::find(&bytes, b"db_write").is_some())
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Level, *};
    use crate::cln::{
        locate::Asked,
        rpc::testing::{Lightningd, result},
    };
    use backstop_protocol::id::Network;
    use serde_json::json;

    #[test]
    fn a_line_that_lets_lightningd_go_on_alone_is_wrong_and_a_path_to_nothing_too() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("regtest")).unwrap();
        let asked = Asked {
            lightning_dir: Some(dir.path().to_owned()),
            network: Some(Network::Regtest),
            ..Asked::default()
        };
        let program = dir.path().join("backstop");
        std::fs::write(&program, "").unwrap();
        let program = program.display();
        for (text, level) in [
            (String::new(), Level::Warning),
            (format!("plugin={program}\n"), Level::Wrong),
            (format!("important-plugin={program}\n"), Level::Ok),
            (
                format!("plugin={program}\nimportant-plugin={program}\n"),
                Level::Ok,
            ),
            ("important-plugin=/not/there/backstop\n".to_owned(), Level::Wrong),
            ("important-plugin=/not/there/other\n".to_owned(), Level::Warning),
        ] {
            std::fs::write(dir.path().join("config"), &text).unwrap();
            let node = NodeDir::find(&asked, None, dir.path()).unwrap();
            let found = configured(&node);
            assert_eq!(found.level, level, "{text}: {found:?}");
        }
    }

    #[test]
    fn a_replica_and_a_second_plugin_of_the_hook_are_told_and_lightnings_own_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            json!({ "name": path, "active": true, "dynamic": false })
        };
        let wallet = |dsn: &str| {
            result(&json!({ "configs": { "wallet": { "value_str": dsn, "source": "cmdline" } } }))
        };
        let plugins = [
            file("backup.py", "hook('db_write')"),
            file("backstop", "db_write"),
            file("libexec/c-lightning/plugins/cln-grpc", "db_write"),
            file("clboss", "nothing of it"),
            json!({ "name": "/not/there", "active": true, "dynamic": true }),
        ];
        let lightningd = Lightningd::answering(&[
            wallet("sqlite3:///a/main.sqlite3:/b/copy.sqlite3"),
            result(&json!({ "command": "list", "plugins": plugins })),
        ]);
        let found = running(&lightningd.rpc());
        lightningd.requests();
        assert!(found[0].says.contains("replica at /b/copy.sqlite3"), "{found:?}");
        assert!(found[1].says.contains("backup.py seems"), "{found:?}");
        assert!(
            !found[1].says.contains("clboss") && !found[1].says.contains("cln-grpc"),
            "{found:?}"
        );

        let lightningd = Lightningd::answering(&[
            wallet("sqlite3:///a/main.sqlite3"),
            result(&json!({ "command": "list", "plugins": [] })),
        ]);
        let found = running(&lightningd.rpc());
        assert!(
            found.iter().all(|finding| finding.level == Level::Ok),
            "{found:?}"
        );
    }

    #[test]
    fn a_lightningd_that_does_not_answer_is_no_judgement() {
        let dir = tempfile::tempdir().unwrap();
        let found = running(&Rpc::new(&dir.path().join("rpc")));
        assert!(
            found.iter().all(|finding| finding.level == Level::Skipped),
            "{found:?}"
        );
    }
}
