//! A running lightningd, asked over its socket: JSON-RPC 2.0, one connection a call, nothing kept open.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;
use std::{
    fs::File,
    io::{self, Read, Write},
    os::{fd::AsRawFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    time::Duration,
};
use zeroize::Zeroizing;

/// How long lightningd may be silent. It is while it waits for a backup in `db_write`.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// Longest answer, bytes; those asked for here have a few kilobytes.
const ANSWER_MAX: usize = 4 << 20;
const PIECE: usize = 64 << 10;
const ID: &str = "backstop";

/// Why a call gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// Nobody listens at the socket.
    #[error("no lightningd answers at {socket} ({reason}): start it, or check --lightning-dir and --network")]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// The connection broke, or nothing came for [`TIMEOUT`].
    #[error("lightningd did not answer {method} ({reason}): see its log, and try again")]
    Io {
        /// The call.
        method: &'static str,
        /// What the system said.
        reason: io::Error,
    },
    /// lightningd answered with an error of its own.
    #[error("lightningd refused {method}: {message} (code {code})")]
    Refused {
        /// The call.
        method: &'static str,
        /// Its code.
        code: i64,
        /// Its words.
        message: String,
    },
    /// The answer is not what this version of Backstop knows.
    #[error("lightningd answered {method} with something unexpected ({reason})")]
    Nonsense {
        /// The call.
        method: &'static str,
        /// What is wrong; never any of the answer, which may hold a secret.
        reason: String,
    },
}

/// What `getinfo` says, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct NodeInfo {
    /// The node's id.
    pub id: backstop_protocol::id::NodeId,
    /// Its network, by CLN's name.
    pub network: String,
    /// Its version.
    pub version: String,
    /// The directory of the network in its lightning-dir.
    #[serde(rename = "lightning-dir")]
    pub net_dir: PathBuf,
}

/// A plugin that runs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Program {
    /// Its file.
    pub name: PathBuf,
}

/// The RPC of one node.
#[derive(Clone, Debug)]
pub struct Rpc {
    socket: PathBuf,
    timeout: Duration,
}

impl Rpc {
    /// The RPC behind `socket`, with the usual time-out. Nothing is opened yet.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            timeout: TIMEOUT,
        }
    }

    /// The same with another time-out.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Who the node is.
    pub fn getinfo(&self) -> Result<NodeInfo, RpcError> {
        self.call("getinfo", &json!({}))
    }

    /// 32 bytes that the node's secret and `info` determine.
    pub fn makesecret(&self, info: &[u8]) -> Result<Zeroizing<[u8; 32]>, RpcError> {
        #[derive(Deserialize)]
        struct Made {
            #[serde(with = "hex::serde")]
            secret: [u8; 32],
        }
        let made: Made = self.call("makesecret", &json!({ "hex": hex::encode(info) }))?;
        Ok(Zeroizing::new(made.secret))
    }

    /// Signs `text` with the node's key; returns `zbase`. lightningd would sign another text than one with quotes,
    /// backslashes or control characters in it, because it does not unescape JSON: such a text is refused here.
    pub fn signmessage(&self, text: &str) -> Result<String, RpcError> {
        #[derive(Deserialize)]
        struct Signed {
            zbase: String,
        }
        let method = "signmessage";
        if text
            .bytes()
            .any(|byte| !(0x20..0x7f).contains(&byte) || byte == b'"' || byte == b'\\')
        {
            return Err(nonsense(method, "the text cannot be signed as it is"));
        }
        Ok(self.call::<Signed>(method, &json!({ "message": text }))?.zbase)
    }

    /// The values of one option, in order; none where it is not set.
    pub fn listconfigs(&self, option: &str) -> Result<Vec<String>, RpcError> {
        #[derive(Deserialize)]
        struct Listed {
            configs: std::collections::BTreeMap<String, Config>,
        }
        #[derive(Deserialize)]
        struct Config {
            value_str: Option<String>,
            #[serde(default)]
            values_str: Vec<String>,
        }
        let listed: Listed = self.call("listconfigs", &json!({ "config": option }))?;
        let configs = listed.configs.into_values();
        Ok(configs
            .flat_map(|config| config.values_str.into_iter().chain(config.value_str))
            .collect())
    }

    /// The plugins that run.
    pub fn plugins(&self) -> Result<Vec<Program>, RpcError> {
        #[derive(Deserialize)]
        struct Listed {
            plugins: Vec<Program>,
        }
        Ok(self
            .call::<Listed>("plugin", &json!({ "subcommand": "list" }))?
            .plugins)
    }

    /// Calls any method.
    pub fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: &impl Serialize,
    ) -> Result<T, RpcError> {
        let io = |reason| RpcError::Io { method, reason };
        let mut stream = connect(&self.socket).map_err(|reason| RpcError::Connect {
            socket: self.socket.clone(),
            reason,
        })?;
        stream.set_read_timeout(Some(self.timeout)).map_err(io)?;
        stream.set_write_timeout(Some(self.timeout)).map_err(io)?;
        let request = json!({ "jsonrpc": "2.0", "id": ID, "method": method, "params": params });
        stream.write_all(request.to_string().as_bytes()).map_err(io)?;

        let mut answer = Zeroizing::new(Vec::with_capacity(PIECE));
        let mut piece = Zeroizing::new(vec![0; PIECE]);
        while answer.len() < ANSWER_MAX {
            let len = stream.read(&mut piece).map_err(io)?;
            if len == 0 {
                return Err(io(io::ErrorKind::UnexpectedEof.into()));
            }
            answer.extend_from_slice(piece.get(..len).unwrap_or_default());
            if let Some(answer) = parse(method, &answer)? {
                return Ok(answer);
            }
        }
        Err(nonsense(method, "it does not end"))
    }
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Answer<T> {
    id: String,
    #[serde(default = "Option::default")]
    result: Option<T>,
    error: Option<Failure>,
}

#[derive(Deserialize)]
struct Failure {
    code: i64,
    message: String,
}

/// The first complete JSON value in `bytes`, as the answer to `method`; `None` where it is not complete yet.
fn parse<T: DeserializeOwned>(method: &'static str, bytes: &[u8]) -> Result<Option<T>, RpcError> {
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Answer<T>>();
    let answer = match values.next() {
        None => return Ok(None),
        Some(Err(error)) if error.is_eof() => return Ok(None),
        Some(Err(error)) => {
            let reason = format!("line {} column {} of it", error.line(), error.column());
            return Err(nonsense(method, reason));
        }
        Some(Ok(answer)) => answer,
    };
    match answer {
        Answer {
            error: Some(Failure { code, message }),
            ..
        } => Err(RpcError::Refused {
            method,
            code,
            message,
        }),
        Answer { id, .. } if id != ID => Err(nonsense(method, "it answers another request")),
        Answer {
            result: Some(result), ..
        } => Ok(Some(result)),
        Answer { result: None, .. } => Err(nonsense(method, "neither a result nor an error")),
    }
}

fn nonsense(method: &'static str, reason: impl Into<String>) -> RpcError {
    RpcError::Nonsense {
        method,
        reason: reason.into(),
    }
}

/// The address of a socket holds about 100 bytes of path, a path may be longer: then the way goes through an open
/// directory, as lightning-cli goes by changing into it.
fn connect(socket: &Path) -> io::Result<UnixStream> {
    match UnixStream::connect(socket) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            let (Some(parent), Some(name)) = (socket.parent(), socket.file_name()) else {
                return Err(error);
            };
            let parent = File::open(parent)?;
            UnixStream::connect(
                Path::new("/proc/self/fd")
                    .join(parent.as_raw_fd().to_string())
                    .join(name),
            )
        }
        other => other,
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
