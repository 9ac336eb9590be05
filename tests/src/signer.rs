//! lightningd's socket, as far as `signmessage`: it signs with a node's own key.

use crate::node::Node;
use anyhow::Result;
use std::{
    io::{BufReader, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
};

/// A socket that signs; gone when dropped.
pub struct Signer {
    socket: PathBuf,
}

impl Signer {
    /// Listens where lightningd would.
    pub fn of(node: &Node) -> Result<Self> {
        let socket = node.network_dir().join("lightning-rpc");
        let listener = UnixListener::bind(&socket)?;
        let key = node.key()?;
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // Whoever asked in vain notices.
                let _ = answer(stream, &key);
            }
        });
        Ok(Self { socket })
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        // The thread waits on; nobody finds it any more.
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn answer(mut stream: UnixStream, key: &secp256k1::SecretKey) -> Result<()> {
    let mut requests = serde_json::Deserializer::from_reader(BufReader::new(stream.try_clone()?)).into_iter();
    let request: serde_json::Value = requests.next().unwrap_or(Ok(serde_json::Value::Null))?;
    let id = request.get("id").cloned().unwrap_or_default();
    let message = request.pointer("/params/message").and_then(|text| text.as_str());
    let answer = match (request.get("method").and_then(|method| method.as_str()), message) {
        (Some("signmessage"), Some(text)) => serde_json::json!({
            "jsonrpc": "2.0", "id": id, "result": { "zbase": backstop_protocol::signmessage::sign(text, key) },
        }),
        _ => serde_json::json!({
            "jsonrpc": "2.0", "id": id, "error": { "code": -32601, "message": "Unknown command" },
        }),
    };
    stream.write_all(format!("{answer}\n\n").as_bytes())?;
    Ok(())
}
