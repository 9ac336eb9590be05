//! JSON-RPC as lightningd speaks it to plugins (CLN reference 1.2, 2.1): bytes, not text.

use anyhow::{Context, Result, ensure};
use serde_json::value::RawValue;
use std::{collections::BTreeMap, io::Read};

/// Appends `text` as a JSON string with exactly CLN's escapes: below 0x20, 0x7f, `"` and `\`. Bytes from 0x80 on
/// go as they are, valid UTF-8 or not.
pub fn push_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for &byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            0..0x20 | 0x7f => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// One request line with the blank line that ends it. `params` is JSON already.
#[must_use]
pub fn request(id: &str, method: &str, params: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(params.len() + 80);
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    push_string(&mut out, id.as_bytes());
    out.extend_from_slice(b",\"method\":");
    push_string(&mut out, method.as_bytes());
    out.extend_from_slice(b",\"params\":");
    out.extend_from_slice(params);
    out.extend_from_slice(b"}\n\n");
    out
}

/// A notification: a request without id.
#[must_use]
pub fn notification(method: &str, params: &[u8]) -> Vec<u8> {
    let mut out = b"{\"jsonrpc\":\"2.0\",\"method\":".to_vec();
    push_string(&mut out, method.as_bytes());
    out.extend_from_slice(b",\"params\":");
    out.extend_from_slice(params);
    out.extend_from_slice(b"}\n\n");
    out
}

/// The parameters of `db_write`.
#[must_use]
pub fn db_write_params<S: AsRef<[u8]>>(data_version: u64, writes: &[S]) -> Vec<u8> {
    let bytes: usize = writes.iter().map(|write| write.as_ref().len() + 8).sum();
    let mut out = Vec::with_capacity(bytes + 64);
    out.extend_from_slice(format!("{{\"data_version\":{data_version},\"writes\":[").as_bytes());
    for (index, write) in writes.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_string(&mut out, write.as_ref());
    }
    out.extend_from_slice(b"]}");
    out
}

/// What a plugin sent: members by name, each as the bytes it was.
#[derive(Debug)]
pub struct Message(BTreeMap<String, Box<RawValue>>);

impl Message {
    /// Reads one message. lightningd kills a plugin whose message lacks `jsonrpc`; so does this.
    pub fn parse(raw: &RawValue) -> Result<Self> {
        let members: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(raw.get()).context("a message is not a JSON object")?;
        ensure!(
            members.contains_key("jsonrpc"),
            "a message without \"jsonrpc\": {}",
            raw.get()
        );
        Ok(Self(members))
    }

    /// The bytes of one member.
    pub fn raw(&self, member: &str) -> Option<&str> {
        self.0.get(member).map(|raw| raw.get())
    }

    /// One member, parsed.
    pub fn get(&self, member: &str) -> Option<serde_json::Value> {
        serde_json::from_str(self.raw(member)?).ok()
    }

    /// Names of the members, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Level and text, where this is a `log` notification.
    pub fn log(&self) -> Option<(String, String)> {
        (self.get("method")? == "log").then_some(())?;
        let params = self.get("params")?;
        let text = |name: &str| params.get(name).and_then(|v| v.as_str()).map(str::to_owned);
        Some((
            text("level").unwrap_or_else(|| "info".to_owned()),
            text("message")?,
        ))
    }
}

/// The messages of a stream, until it ends or holds something that is not JSON.
pub fn messages(from: impl Read) -> impl Iterator<Item = Result<Message>> {
    serde_json::Deserializer::from_reader(std::io::BufReader::new(from))
        .into_iter::<Box<RawValue>>()
        .map(|raw| Message::parse(raw.context("not JSON")?.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn strings_are_escaped_as_lightningd_does() {
        let mut out = Vec::new();
        push_string(&mut out, b"a\"b\\c\n\x01\x7f\xff\xc3\xa9/");
        assert_eq!(out, b"\"a\\\"b\\\\c\\n\\u0001\\u007f\xff\xc3\xa9/\"");
    }

    #[test]
    fn a_db_write_looks_like_lightningds() {
        let params = db_write_params(12, &[b"UPDATE version SET version=282;".as_slice()]);
        let want = "{\"jsonrpc\":\"2.0\",\"id\":\"cln:db_write#21\",\"method\":\"db_write\",\"params\":\
                    {\"data_version\":12,\"writes\":[\"UPDATE version SET version=282;\"]}}\n\n";
        assert_eq!(request("cln:db_write#21", "db_write", &params), want.as_bytes());
    }

    #[test]
    fn messages_are_separated_by_what_they_are_and_not_by_line_ends() {
        let stream =
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\n\n\"result\":{}}{\"jsonrpc\":\"2.0\",\"method\":\"log\",\
                       \"params\":{\"level\":\"info\",\"message\":\"m\"}}\n\n";
        let got: Vec<Message> = messages(stream.as_slice()).collect::<Result<_>>().unwrap();
        assert_eq!(got.len(), 2);
        assert_eq!(got[0].raw("id"), Some("1"));
        assert_eq!(got[1].log(), Some(("info".to_owned(), "m".to_owned())));
        assert!(messages(b"{\"id\":1}".as_slice()).any(|m| m.is_err()));
    }

    proptest! {
        #[test]
        fn any_text_survives_the_escapes(text in ".*") {
            let mut out = Vec::new();
            push_string(&mut out, text.as_bytes());
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
