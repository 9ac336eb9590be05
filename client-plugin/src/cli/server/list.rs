//! `backstop server list`.

use crate::{
    directory::RequireConfig,
    node::Node,
    quorum::{Answer, newest},
};
use backstop_protocol::{head::Head, id::ServerKey};
use serde::Serialize;
use std::io::Write;

/// What `--json` prints; members are added, never changed.
#[derive(Serialize)]
struct Listed {
    servers: Vec<Server>,
    require: RequireConfig,
    /// How many must hold each update.
    needed: usize,
    /// How many a restore needs.
    to_restore: usize,
    /// The command that completes a change which was begun.
    unfinished: Option<String>,
}

#[derive(Serialize)]
struct Server {
    url: String,
    key: ServerKey,
    /// The head there; absent where it did not answer.
    head: Option<Head>,
    /// Whether another one holds more.
    behind: bool,
    /// Why there is no answer.
    error: Option<String>,
}

/// Shows what each server holds.
pub(super) async fn list(node: &Node, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let answers = node.open_readers().await;
    let accounts = answers.iter().filter_map(|answer| answer.opened.as_ref().ok());
    let newest = newest(accounts.map(|(_, account)| account).enumerate()).map(|(_, account)| account.head);
    let mut servers = Vec::new();
    for (server, Answer { opened, .. }) in node.config.servers.iter().zip(&answers) {
        let head = opened.as_ref().ok().map(|(_, account)| account.head);
        servers.push(Server {
            url: server.url.clone(),
            key: server.key,
            head,
            behind: head
                .zip(newest)
                .is_some_and(|(head, newest)| head.cmp_place(&newest).is_lt()),
            error: opened.as_ref().err().map(ToString::to_string),
        });
    }
    let rule = node.config.rule();
    let listed = Listed {
        servers,
        require: node.config.require,
        needed: rule.needed,
        to_restore: rule.to_take_over(),
        unfinished: node.directory.pending()?.map(|pending| pending.typed),
    };
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&listed)?)?;
        return Ok(());
    }
    for server in &listed.servers {
        writeln!(out, "{}", server.url)?;
        writeln!(out, "  key      {}", server.key)?;
        match (&server.head, &server.error) {
            (Some(head), _) => writeln!(
                out,
                "  holds    record {} of epoch {}{}",
                head.seq,
                head.epoch,
                if server.behind { ", BEHIND" } else { "" }
            )?,
            (None, Some(error)) => writeln!(out, "  SILENT   {error}")?,
            (None, None) => {}
        }
    }
    writeln!(
        out,
        "{} of {} must hold each update; a restore needs {}",
        rule.needed,
        rule.servers,
        rule.to_take_over()
    )?;
    if let Some(typed) = &listed.unfinished {
        writeln!(
            out,
            "A change was begun and not completed, and lightningd does not start until it is. Type: {typed}"
        )?;
    }
    Ok(())
}
