//! lightningd's socket, as far as Backstop asks it: it signs with a node's own key, and says how it was configured.

use crate::{binaries, node::Node};
use anyhow::Result;
use serde_json::{Value, json};
use std::{
    io::{BufReader, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
};

/// A socket that signs, of a lightningd to which `backstop` is an important plugin; gone when dropped.
pub struct Signer {
    socket: PathBuf,
}

impl Signer {
    /// Listens where lightningd would.
    pub fn of(node: &Node) -> Result<Self> {
        let socket = node.network_dir().join("lightning-rpc");
        let listener = UnixListener::bind(&socket)?;
        let (key, program) = (node.key()?, binaries::binary("backstop")?);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // Whoever asked in vain notices.
                let _ = answer(stream, &key, &program);
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

fn answer(mut stream: UnixStream, key: &secp256k1::SecretKey, program: &Path) -> Result<()> {
    let mut requests = serde_json::Deserializer::from_reader(BufReader::new(stream.try_clone()?)).into_iter();
    let request: Value = requests.next().unwrap_or(Ok(Value::Null))?;
    let said = |place: &str| request.pointer(place).and_then(Value::as_str).unwrap_or_default();
    let result = match said("/method") {
        "signmessage" => Some(json!({
            "zbase": backstop_protocol::signmessage::sign(said("/params/message"), key),
        })),
        "listconfigs" if said("/params/config") == "important-plugin" => Some(json!({
            "configs": { "important-plugin": { "values_str": [program], "sources": ["cmdline"] } },
        })),
        "listconfigs" => Some(json!({ "configs": {} })),
        "plugin" => Some(json!({ "command": "list", "plugins": [] })),
        _ => None,
    };
    let mut answer = json!({ "jsonrpc": "2.0", "id": request.get("id").cloned().unwrap_or_default() });
    match (result, answer.as_object_mut()) {
        (Some(result), Some(members)) => members.insert("result".to_owned(), result),
        (None, Some(members)) => members.insert(
            "error".to_owned(),
            json!({ "code": -32601, "message": "Unknown command" }),
        ),
        (_, None) => None,
    };
    stream.write_all(format!("{answer}\n\n").as_bytes())?;
    Ok(())
}
