//! A client of the server's HTTP calls that can say anything, written from the protocol alone.

use anyhow::{Context, Result};
use backstop_protocol::{
    api::{self, AccountState, ServerInfo, SessionOpened},
    clock::UnixMillis,
    grant::{Grant, Scope, SignedGrant},
    hash::sha256,
    id::{AccessKey, InstanceId, Network, NodeId, RecordHash, RunId, ServerKey, TimelineId},
    problem::Problem,
    record::{HEADER_LEN, RECORD_MIN, RecordHeader, RecordKind},
    session::{IdentitySecret, Opening, SessionKey, SignedOpening, WriterClaim},
};
use secp256k1::SecretKey;
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

/// An answer: status, whether its content type is that of a problem, body.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers, in lower case.
    pub headers: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The problem document that a refusal must be.
    pub fn problem(&self) -> Result<Problem> {
        anyhow::ensure!(
            self.headers.contains("application/problem+json"),
            "no problem document: {self:?}"
        );
        let problem: Problem = serde_json::from_slice(&self.body)?;
        anyhow::ensure!(
            problem.status == self.status,
            "status {} in a document of {}",
            self.status,
            problem.status
        );
        Ok(problem)
    }
}

/// Sends bytes to a server and reads until it closes the connection.
pub fn raw(address: &str, request: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_mins(1)))?;
    // A server may answer and close before it has read everything.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    Ok(answer)
}

/// One request with these headers on a connection of its own.
pub fn http(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Answer> {
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        request.extend([*name, ": ", *value, "\r\n"]);
    }
    request.push_str("\r\n");
    let mut bytes = request.into_bytes();
    bytes.extend_from_slice(body);
    parse(&raw(address, &bytes)?)
}

fn parse(answer: &[u8]) -> Result<Answer> {
    let end = answer
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .context("no end of the headers")?;
    let (head, body) = answer.split_at(end + 4);
    let head = String::from_utf8(head.to_vec())?.to_lowercase();
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    let body = if head.contains("transfer-encoding: chunked") {
        unchunk(body)?
    } else {
        body.to_vec()
    };
    Ok(Answer {
        status,
        headers: head,
        body,
    })
}

fn unchunk(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest
            .windows(2)
            .position(|w| w == b"\r\n")
            .context("no size of a chunk")?;
        let len = usize::from_str_radix(std::str::from_utf8(rest.get(..end).unwrap_or_default())?, 16)?;
        if len == 0 {
            return Ok(body);
        }
        rest = rest.get(end + 2..).context("cut off")?;
        body.extend_from_slice(rest.get(..len).context("cut off")?);
        rest = rest.get(len + 2..).context("cut off")?;
    }
}

/// A node as a client of one server.
pub struct Caller {
    /// `ADDRESS:PORT` of the server.
    pub address: String,
    /// The server's identity.
    pub server: ServerKey,
    /// The node's secret key.
    pub node_key: SecretKey,
    /// The key that opens sessions.
    pub access: IdentitySecret,
    /// Token and key of the open session.
    pub session: Option<(String, SessionKey)>,
    /// Goes up with each request.
    pub counter: u64,
}

impl Caller {
    /// A node whose keys follow from `byte`; no session yet.
    pub fn new(address: &str, byte: u8) -> Result<Self> {
        let info = http(address, "GET", api::INFO, &[], b"")?;
        let info: ServerInfo = serde_json::from_slice(&info.body)?;
        Ok(Self {
            address: address.to_owned(),
            server: info.server,
            node_key: SecretKey::from_secret_bytes([byte; 32])?,
            access: IdentitySecret::from_bytes(&[byte.wrapping_add(100); 32])?,
            session: None,
            counter: 0,
        })
    }

    /// One of any number of nodes, whose keys follow from `number`; it knows the server already.
    pub fn numbered(address: &str, server: ServerKey, number: u64) -> Result<Self> {
        let key = |of: u8| sha256(&[&[of][..], &number.to_be_bytes()].concat());
        Ok(Self {
            address: address.to_owned(),
            server,
            node_key: SecretKey::from_secret_bytes(key(0))?,
            access: IdentitySecret::from_bytes(&key(1))?,
            session: None,
            counter: 0,
        })
    }

    /// Its name.
    pub fn node(&self) -> NodeId {
        NodeId(self.node_key.public_key().serialize())
    }

    /// What its grant says.
    pub fn grant(&self) -> Grant {
        Grant {
            access_key: self.access.access_key(),
            scope: Scope::Append,
            node: self.node(),
            network: Network::Regtest,
            serial: 1,
            expires_at: None,
        }
    }

    /// An opening for writing as this server expects it.
    pub fn opening(&self, expected_epoch: u64) -> Opening {
        Opening {
            server: self.server,
            node: self.node(),
            network: Network::Regtest,
            access_key: AccessKey(self.access.access_key().0),
            grant: Some(SignedGrant::sign(&self.grant(), &self.node_key)),
            scope: Scope::Append,
            writer: Some(WriterClaim {
                instance: InstanceId([1; 16]),
                run: RunId([u8::try_from(expected_epoch).unwrap_or(255); 16]),
                expected_epoch,
                epoch: expected_epoch + 1,
                takeover: false,
            }),
            time: UnixMillis(1),
        }
    }

    /// Signs an opening and sends it.
    pub fn send_opening(&self, opening: Opening) -> Result<Answer> {
        let signed = opening.sign(&self.access, &[0; 32])?;
        self.send_signed(&signed)
    }

    /// Sends an opening as it stands.
    pub fn send_signed(&self, signed: &SignedOpening) -> Result<Answer> {
        http(
            &self.address,
            "POST",
            api::SESSIONS,
            &[("Content-Type", "application/json")],
            &serde_json::to_vec(signed)?,
        )
    }

    /// Opens a session, which must succeed.
    pub fn open(&mut self, opening: Opening) -> Result<AccountState> {
        let answer = self.send_opening(opening)?;
        anyhow::ensure!(answer.status == 200, "{}", String::from_utf8_lossy(&answer.body));
        let opened: SessionOpened = serde_json::from_slice(&answer.body)?;
        let pair = self.access.shared_with(&self.server.0)?;
        self.session = Some((opened.token.clone(), pair.session_key(&opened.token)));
        Ok(opened.account)
    }

    /// The credentials of a request of the open session.
    pub fn authorization(&mut self, method: &str, path: &str, body: &[u8]) -> Result<String> {
        self.counter += 1;
        let (token, key) = self.session.as_ref().context("no session")?;
        let mac = key.request_mac(method, path, self.counter, &sha256(body));
        Ok(format!(
            "{} {token} {} {}",
            api::AUTH_SCHEME,
            self.counter,
            hex::encode(mac)
        ))
    }

    /// A request of the open session.
    pub fn call(&mut self, method: &str, path: &str, body: &[u8]) -> Result<Answer> {
        let authorization = self.authorization(method, path, body)?;
        http(
            &self.address,
            method,
            path,
            &[("Authorization", &authorization)],
            body,
        )
    }

    /// The account, without the server's clock.
    pub fn account(&mut self) -> Result<AccountState> {
        let answer = self.call("GET", api::HEAD, b"")?;
        anyhow::ensure!(answer.status == 200, "{}", String::from_utf8_lossy(&answer.body));
        let mut account: AccountState = serde_json::from_slice(&answer.body)?;
        account.time = UnixMillis(0);
        Ok(account)
    }
}

/// Bytes that look like a sealed record; no server can tell more.
pub fn record(epoch: u64, seq: u64, prev: RecordHash) -> Vec<u8> {
    let header = RecordHeader {
        kind: RecordKind::Batch,
        timeline: TimelineId([7; 16]),
        epoch,
        seq,
        prev,
        nonce: [u8::try_from(seq % 251).unwrap_or(0); 24],
    };
    let mut bytes = header.encode();
    bytes.resize(RECORD_MIN.max(HEADER_LEN), 0xa5);
    bytes
}
