//! Golden transcripts of the plugin's two streams.
//!
//! | line | meaning |
//! |---|---|
//! | `# text` | a comment |
//! | `> text` | sent, with the blank line that ends a message |
//! | `>> text` | sent as it stands, without anything behind it |
//! | `< json` | the next message that is no log line |
//! | `! split N` | the next text is sent in N pieces |
//! | `! eof` | its stdin ends |
//! | `! signal NAME` | it gets a signal, such as `SIGTERM` |
//! | `! exit N` | it leaves by itself, with this status |
//! | `! logs LEVEL text` | it has logged a line of this level that holds this text |
//!
//! In what is sent, `\n`, `\r`, `\xNN` and `\\` are bytes, except that in `>` lines a backslash is one, as JSON needs
//! it; `{node_id}` is the node's id in hex, `{dir}` its network directory, `{repeat N text}` N times the text.
//! In what is expected, `…` stands for any text inside a string, `"…"` for any value, and a member named `…` for any
//! further members; an `id` must be the same to the byte.

use crate::{
    json_rpc::Message,
    node::Node,
    plugin::{Plugin, Program},
};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, value::RawValue};
use std::collections::BTreeMap;

/// Starts the plugin in the node's directory and follows the transcript.
pub fn run(transcript: &str, node: &Node, program: &Program) -> Result<()> {
    let mut plugin = Plugin::start(program, &node.network_dir())?;
    let mut pieces = 1;
    for (number, line) in (1..).zip(transcript.lines()) {
        follow(line, node, &mut plugin, &mut pieces)
            .with_context(|| format!("line {number}: {}", line.chars().take(200).collect::<String>()))
            .with_context(|| plugin.says())?;
    }
    Ok(())
}

fn follow(line: &str, node: &Node, plugin: &mut Plugin, pieces: &mut usize) -> Result<()> {
    if line.trim().is_empty() || line.starts_with('#') {
        return Ok(());
    }
    let (sign, text) = line.split_once(' ').context("a sign and a space")?;
    match sign {
        ">" => {
            let mut bytes = fill_in(text, node)?.into_bytes();
            bytes.extend_from_slice(b"\n\n");
            send(plugin, &bytes, std::mem::replace(pieces, 1))
        }
        ">>" => {
            let bytes = unescape(fill_in(text, node)?.as_bytes())?;
            send(plugin, &bytes, std::mem::replace(pieces, 1))
        }
        "<" => expect(text, &plugin.next_message()?),
        "!" => act(text, plugin, pieces),
        other => bail!("{other} is no sign"),
    }
}

fn send(plugin: &mut Plugin, bytes: &[u8], pieces: usize) -> Result<()> {
    for piece in bytes.chunks(bytes.len().div_ceil(pieces).max(1)) {
        plugin.send(piece)?;
    }
    Ok(())
}

fn act(text: &str, plugin: &mut Plugin, pieces: &mut usize) -> Result<()> {
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    match verb {
        "eof" => plugin.close_stdin(),
        "signal" => plugin.signal(rest.parse()?),
        "split" => *pieces = rest.parse()?,
        "exit" => {
            let status = plugin.wait()?;
            ensure!(status.to_string() == rest, "it left with {status}");
        }
        "logs" => {
            let (level, part) = rest.split_once(' ').context("a level and a text")?;
            let said = plugin
                .log()
                .iter()
                .any(|(l, line)| l == level && line.contains(part));
            ensure!(said, "it did not log that");
        }
        other => bail!("{other} is no verb"),
    }
    Ok(())
}

/// Replaces what stands in braces.
fn fill_in(text: &str, node: &Node) -> Result<String> {
    let text = text.replace("{node_id}", &node.node_id()?.to_string());
    let text = text.replace("{dir}", &node.network_dir().display().to_string());
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("{repeat ") {
        let (inside, behind) = after.split_once('}').context("a brace without end")?;
        let (count, what) = inside.split_once(' ').context("a count and a text")?;
        out.push_str(before);
        out.push_str(&what.repeat(count.parse()?));
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

fn unescape(text: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        out.push(match bytes.next() {
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'\\') => b'\\',
            Some(b'x') => {
                let digits: Vec<u8> = bytes.by_ref().take(2).collect();
                *hex::decode(digits)?.first().context("two hex digits")?
            }
            _ => bail!("no such escape"),
        });
    }
    Ok(out)
}

fn expect(expected: &str, got: &Message) -> Result<()> {
    let members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(expected)?;
    let mut names: Vec<&str> = members.keys().map(String::as_str).collect();
    let open = names.contains(&"…");
    names.retain(|name| *name != "…");
    for name in &names {
        let want = members.get(*name).map(|raw| raw.get()).unwrap_or_default();
        let have = got
            .raw(name)
            .with_context(|| format!("no {name} in the reply: {got:?}"))?;
        let same = if *name == "id" {
            want == have
        } else {
            matches(&serde_json::from_str(want)?, &serde_json::from_str(have)?)
        };
        ensure!(same, "{name} is {have}");
    }
    let more = got.names().find(|name| !names.contains(name));
    ensure!(open || more.is_none(), "a member too many: {more:?}");
    Ok(())
}

fn matches(want: &Value, have: &Value) -> bool {
    match (want, have) {
        (Value::String(want), _) if want == "…" => true,
        (Value::String(want), Value::String(have)) => fits(want, have),
        (Value::Array(want), Value::Array(have)) => {
            want.len() == have.len() && want.iter().zip(have).all(|(want, have)| matches(want, have))
        }
        (Value::Object(want), Value::Object(have)) => {
            let open = want.contains_key("…");
            want.iter()
                .all(|(name, want)| name == "…" || have.get(name).is_some_and(|have| matches(want, have)))
                && (open || have.keys().all(|name| want.contains_key(name)))
        }
        (want, have) => want == have,
    }
}

/// Whether a text has the parts between the `…` in their order.
fn fits(want: &str, have: &str) -> bool {
    let mut parts = want.split('…');
    let Some(mut rest) = parts.next().and_then(|first| have.strip_prefix(first)) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
        last = Some(part);
    }
    rest.is_empty() || last.is_some_and(|part| part.is_empty() || have.ends_with(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expectations_match_what_they_describe_and_nothing_else() {
        let yes = |want: &str, have: &str| {
            matches(
                &serde_json::from_str(want).unwrap(),
                &serde_json::from_str(have).unwrap(),
            )
        };
        assert!(yes(
            r#"{"a": "…", "b": ["x…z"]}"#,
            r#"{"a": {"c": 1}, "b": ["xyz"]}"#
        ));
        assert!(yes(r#"{"a": 1, "…": 0}"#, r#"{"a": 1, "b": 2}"#));
        assert!(!yes(r#"{"a": 1}"#, r#"{"a": 1, "b": 2}"#));
        assert!(!yes(r#"{"b": ["x…z"]}"#, r#"{"b": ["xy"]}"#));
        assert!(!yes("[1]", "[1, 2]"));
        assert!(fits("a…b…", "a1b2") && fits("…", "") && !fits("a…b", "a1c") && fits("same", "same"));
    }

    #[test]
    fn bytes_that_no_editor_shows_can_be_written_down() {
        assert_eq!(unescape(br"a\n\r\xff\\").unwrap(), b"a\n\r\xff\\");
        assert!(unescape(br"\q").is_err());
    }
}
