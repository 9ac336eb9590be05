//! What lightningd says, read as bytes: a statement is not always UTF-8 (`reference` of CLN: bytes of 0x80 and above
//! are passed through unvalidated).

use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use std::fmt;

/// A message from lightningd.
#[derive(Debug, PartialEq)]
pub(super) enum Message {
    /// `getmanifest`.
    GetManifest { id: Value },
    /// `init`.
    Init { id: Value, init: Box<Init> },
    /// The hook.
    DbWrite { id: Value, batch: RawBatch },
    /// `shutdown`, a notification.
    Shutdown,
    /// A request that we never offered to serve.
    UnknownRequest { id: Value, method: String },
    /// A notification that we never subscribed to.
    UnknownNotification,
}

/// The parameters of a `db_write` call.
#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct RawBatch {
    /// The version that the database has once this batch is committed.
    pub(super) data_version: u64,
    /// The statements, in order.
    #[serde(deserialize_with = "statements")]
    pub(super) writes: Vec<Vec<u8>>,
}

/// What of `init` is of use.
#[derive(Debug, Default, PartialEq, Deserialize)]
pub(super) struct Init {
    /// `configuration`.
    pub(super) configuration: Configuration,
}

/// Where the node is.
#[derive(Debug, Default, PartialEq, Deserialize)]
pub(super) struct Configuration {
    /// `<lightning-dir>/<network>`.
    #[serde(rename = "lightning-dir")]
    pub(super) network_dir: std::path::PathBuf,
    /// Name of the RPC socket in it.
    #[serde(rename = "rpc-file")]
    pub(super) rpc_file: String,
}

/// A message that cannot be acted on; `id` where the sender waits for an answer.
#[derive(Debug)]
pub(super) struct BadMessage {
    /// The request's id, if one could be read.
    pub(super) id: Option<Value>,
    /// What is wrong, without any of the content.
    pub(super) reason: String,
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(default, deserialize_with = "present")]
    id: Option<Value>,
    method: ByteString,
}

#[derive(Deserialize)]
struct Params<T> {
    params: T,
}

/// Reads one message. Members that are not known are passed over, wherever they stand.
pub(super) fn parse(frame: &[u8]) -> Result<Message, BadMessage> {
    let envelope: Envelope = serde_json::from_slice(frame).map_err(|error| BadMessage {
        id: None,
        reason: location(&error),
    })?;
    let method = String::from_utf8_lossy(&envelope.method.0).into_owned();
    match (method.as_str(), envelope.id) {
        ("getmanifest", Some(id)) => Ok(Message::GetManifest { id }),
        ("init", Some(id)) => match params(frame) {
            Ok(init) => Ok(Message::Init {
                id,
                init: Box::new(init),
            }),
            Err(reason) => Err(BadMessage { id: Some(id), reason }),
        },
        ("db_write", Some(id)) => match params(frame) {
            Ok(batch) => Ok(Message::DbWrite { id, batch }),
            Err(reason) => Err(BadMessage { id: Some(id), reason }),
        },
        ("shutdown", None) => Ok(Message::Shutdown),
        (_, Some(id)) => Ok(Message::UnknownRequest { id, method }),
        (_, None) => Ok(Message::UnknownNotification),
    }
}

fn params<T: de::DeserializeOwned>(frame: &[u8]) -> Result<T, String> {
    serde_json::from_slice::<Params<T>>(frame)
        .map(|found| found.params)
        .map_err(|error| location(&error))
}

/// Where a parser stopped, and not what it saw there: that may be a statement.
fn location(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Syntax | serde_json::error::Category::Eof => "not JSON",
        _ => "not the members that are expected",
    };
    format!("{kind}, at line {} column {}", error.line(), error.column())
}

/// `"id": null` is an id, a missing one is none.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// The bytes of a JSON string, whether or not they are UTF-8.
struct ByteString(Vec<u8>);

impl<'de> Deserialize<'de> for ByteString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = ByteString;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<ByteString, E> {
                Ok(ByteString(bytes.to_vec()))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteString, E> {
                Ok(ByteString(text.as_bytes().to_vec()))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

fn statements<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<u8>>, D::Error> {
    Ok(Vec::<ByteString>::deserialize(deserializer)?
        .into_iter()
        .map(|statement| statement.0)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_batch_is_read_with_ids_as_they_are_and_statements_as_bytes() {
        let frame = b"{\"jsonrpc\":\"2.0\",\"new\":[1,{\"x\":\"\xff\"}],\"id\":\"cln:db_write#21\",\"method\":\"db_write\",\
            \"params\":{\"data_version\":12,\"extra\":null,\"writes\":[\"a\\u0001\\\"\\n\xc3\x28\",\"UPDATE\"]}}";
        let Ok(Message::DbWrite { id, batch }) = parse(frame) else {
            panic!("not a batch")
        };
        assert_eq!(id, json!("cln:db_write#21"));
        assert_eq!(batch.data_version, 12);
        assert_eq!(batch.writes, [b"a\x01\"\n\xc3\x28".to_vec(), b"UPDATE".to_vec()]);
    }

    #[test]
    fn a_request_with_a_null_id_wants_an_answer_and_a_notification_does_not() {
        assert_eq!(
            parse(b"{\"method\":\"x\",\"id\":null}").unwrap(),
            Message::UnknownRequest {
                id: Value::Null,
                method: "x".into()
            }
        );
        assert_eq!(
            parse(b"{\"method\":\"x\"}").unwrap(),
            Message::UnknownNotification
        );
        assert_eq!(
            parse(b"{\"method\":\"shutdown\",\"params\":{}}").unwrap(),
            Message::Shutdown
        );
    }

    #[test]
    fn a_batch_with_a_wrong_field_is_refused_with_its_id_and_without_its_content() {
        for params in [
            r#"{"data_version":-1,"writes":[]}"#,
            r#"{"data_version":1.5,"writes":[]}"#,
            r#"{"data_version":1}"#,
            r#"{"writes":[]}"#,
            r#"{"data_version":1,"writes":["secret",7]}"#,
            r#"{"data_version":1,"data_version":2,"writes":["secret"]}"#,
            r#"{"data_version":"1","writes":"secret"}"#,
            "null",
        ] {
            let frame = format!(r#"{{"id":7,"method":"db_write","params":{params}}}"#);
            let bad = parse(frame.as_bytes()).unwrap_err();
            assert_eq!(bad.id, Some(json!(7)), "{params}");
            assert!(!bad.reason.contains("secret"), "{}", bad.reason);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_statement_arrives_as_it_was_sent(text in any::<String>()) {
            let frame = json!({"id": 1, "method": "db_write", "params": {"data_version": 1, "writes": [text]}});
            let Ok(Message::DbWrite { batch, .. }) = parse(frame.to_string().as_bytes()) else { panic!("not a batch") };
            prop_assert_eq!(batch.writes, vec![text.into_bytes()]);
        }
    }
}
