//! A browser as far as pages need one: it keeps cookies, sends forms, and goes where it is sent.

use super::*;
use backstop_protocol::{login::Login, signmessage};
use std::collections::BTreeMap;

/// One browser at one address.
#[derive(Clone)]
pub(crate) struct Browser {
    addr: SocketAddr,
    /// By name.
    pub(crate) cookies: BTreeMap<String, String>,
    /// What it sends beside them.
    pub(crate) headers: Vec<(&'static str, String)>,
}

/// A field of a form, as browsers write it.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

/// What the page of the first step brings along for the second.
pub(crate) fn text_to_sign(page: &str) -> String {
    let (_, rest) = page.split_once("name=\"text\" value=\"").unwrap();
    rest.split('"').next().unwrap().to_owned()
}

impl Answer {
    /// The text of a page.
    pub(crate) fn page(&self) -> String {
        assert_eq!(self.headers["content-type"], "text/html; charset=utf-8");
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The text of a page of this status, which must hold this.
    pub(crate) fn says(&self, status: u16, what: &str) -> String {
        let page = self.page();
        assert_eq!(self.status, status, "{page}");
        assert!(page.contains(what), "{page}");
        page
    }
}

impl Browser {
    pub(crate) fn at(addr: SocketAddr) -> Self {
        Self {
            addr,
            cookies: BTreeMap::new(),
            headers: Vec::new(),
        }
    }

    /// With all that it keeps, where another process of the same server answers.
    pub(crate) fn at_another(self, addr: SocketAddr) -> Self {
        Self { addr, ..self }
    }

    pub(crate) async fn ask(&mut self, method: &str, path: &str, body: &str) -> Answer {
        let cookies: Vec<_> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let cookies = cookies.join("; ");
        let mut headers: Vec<(&str, &str)> = vec![("content-type", "application/x-www-form-urlencoded")];
        if !cookies.is_empty() {
            headers.push(("cookie", &cookies));
        }
        headers.extend(self.headers.iter().map(|(name, value)| (*name, value.as_str())));
        let mut connection = Connection::open(self.addr).await;
        let answer = connection.request(method, path, &headers, body.as_bytes()).await;
        for cookie in &answer.cookies {
            let (pair, attributes) = cookie.split_once("; ").unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if attributes.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }

    pub(crate) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let pairs: Vec<_> = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", encoded(value)))
            .collect();
        self.ask("POST", path, &pairs.join("&")).await
    }

    /// The first step: the text that the node is to sign.
    pub(crate) async fn begin(&mut self, node: &Node) -> String {
        let id = node.id().to_string();
        let answer = self
            .post("/login", &[("node", &id), ("network", "regtest")])
            .await;
        let page = answer.says(200, "lightning-cli --network=regtest signmessage");
        let text = text_to_sign(&page);
        assert!(page.contains(&format!("signmessage '{text}'")));
        let login: Login = text.parse().unwrap();
        assert_eq!((login.node, login.network), (node.id(), Network::Regtest));
        text
    }

    /// The second step, with the answer of lightning-cli as it is.
    pub(crate) async fn prove(&mut self, text: &str, signer: &Node) -> Answer {
        let answer = serde_json::json!({
            "signature": "00".repeat(64),
            "recid": "01",
            "zbase": signmessage::sign(text, &signer.secret),
        });
        let answer = serde_json::to_string_pretty(&answer)
            .unwrap()
            .replace('\n', "\r\n");
        self.post("/proof", &[("text", text), ("signature", &answer)])
            .await
    }

    /// Both steps.
    pub(crate) async fn log_in(&mut self, node: &Node) {
        let text = self.begin(node).await;
        let answer = self.prove(&text, node).await;
        assert_eq!(
            (answer.status, answer.headers["location"].as_str()),
            (303, "backup")
        );
    }
}
