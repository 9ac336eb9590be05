//! What people type into forms, and how it is read: kindly where the meaning is clear, and within bounds.

use super::{failure::Failure, visit::Visit};
use crate::{
    error::ApiError,
    http::{App, body},
};
use axum::extract::Request;
use backstop_protocol::id::{Network, NodeId};
use serde::{Deserialize, de::DeserializeOwned};

/// Longest body of a form, bytes: a login, and its signature with what a terminal prints around it.
const FORM_MAX: usize = 16 << 10;
/// Letters of a signature (SPEC 4.1).
const SIGNATURE_LEN: usize = 104;
const ZBASE32: &str = "ybndrfg8ejkmcpqxot1uwisza345h769";

/// Who somebody says to be.
#[derive(Deserialize)]
pub(super) struct Named {
    node: String,
    network: String,
}

/// What he signed, and what his node made of it.
#[derive(Deserialize)]
pub(super) struct Signed {
    pub(super) text: String,
    signature: String,
}

/// What only the operator knows.
#[derive(Deserialize)]
pub(super) struct Token {
    pub(super) token: String,
}

/// The form that a request brings.
pub(super) async fn read<T: DeserializeOwned>(app: &App, request: Request) -> Result<(Visit, T), Failure> {
    let (parts, body) = request.into_parts();
    let body = body::read(&parts.headers, body, FORM_MAX, app.body_grace).await;
    let body = body.map_err(|error| match error {
        ApiError::TooLarge(_) | ApiError::Timeout | ApiError::Malformed(_) => Failure::Form,
        other => Failure::Failed(other),
    })?;
    let form = serde_urlencoded::from_bytes(&body).map_err(|_| Failure::Form)?;
    Ok((Visit::of(app, &parts), form))
}

impl Named {
    /// The node: its id, or the address of which it is the first part.
    pub(super) fn node(&self) -> Option<NodeId> {
        let id = self.node.trim().split('@').next()?;
        let id: NodeId = id.trim().to_ascii_lowercase().parse().ok()?;
        // What no key can be is no node.
        matches!(id.0, [2 | 3, ..]).then_some(id)
    }

    pub(super) fn network(&self) -> Option<Network> {
        self.network.parse().ok()
    }
}

impl Signed {
    /// The signature in what was pasted: lightning-cli's answer as it is, or the `zbase` of it alone, broken into lines or not.
    pub(super) fn zbase(&self) -> Option<String> {
        let whole: String = self.signature.split_ascii_whitespace().collect();
        let mut words = whole.split(|letter| !ZBASE32.contains(letter));
        let word = words.find(|word| word.len() == SIGNATURE_LEN)?;
        Some(word.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ZBASE: &str = "rnqwsuxaa7zaksm55j1xfer7xhqetgaxocn3uw1jx7np5rr585teoorgyrbedbqm1oyh3srfwhsy1zjjs1da1eajyq6xgq6s5cfypw6k";

    fn zbase(signature: &str) -> Option<String> {
        let (text, signature) = (String::new(), signature.to_owned());
        Signed { text, signature }.zbase()
    }

    fn node(node: &str) -> Option<NodeId> {
        let (node, network) = (node.to_owned(), "bitcoin".to_owned());
        Named { node, network }.node()
    }

    #[test]
    fn a_signature_is_found_in_whatever_a_terminal_prints() {
        let hex = "5f".repeat(64);
        let answer = format!(
            "{{\r\n   \"signature\": \"{hex}\",\r\n   \"recid\": \"01\",\r\n   \"zbase\": \"{ZBASE}\"\r\n}}\r\n"
        );
        let (first, second) = ZBASE.split_at(40);
        for pasted in [
            ZBASE.to_owned(),
            format!("  {ZBASE}\n"),
            format!("\"{ZBASE}\""),
            format!("{first}\r\n{second}"),
            format!("\"zbase\": \"{ZBASE}\""),
            answer.replace(['\r', '\n'], ""),
            answer,
        ] {
            assert_eq!(zbase(&pasted).as_deref(), Some(ZBASE), "{pasted}");
        }
        for pasted in [
            "",
            "yyyy",
            &hex,
            &ZBASE[1..],
            &format!("y{ZBASE}"),
            "{\"code\": -32601}",
        ] {
            assert_eq!(zbase(pasted), None, "{pasted}");
        }
    }

    #[test]
    fn a_node_is_read_as_people_copy_it() {
        let id = format!("02{}", "ab".repeat(32));
        let want = id.parse().ok();
        for typed in [
            &id,
            &format!(" {id}\n"),
            &id.to_uppercase(),
            &format!("{id}@192.0.2.1:9735"),
        ] {
            assert_eq!(node(typed), want, "{typed}");
        }
        for typed in ["", "02ab", &"ab".repeat(33), &format!("{id}00"), "<script>"] {
            assert_eq!(node(typed), None, "{typed}");
        }
    }

    proptest! {
        #[test]
        fn nothing_typed_makes_the_readers_panic(typed in ".{0,300}") {
            zbase(&typed);
            node(&typed);
        }
    }
}
