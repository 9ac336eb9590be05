//! A node that only appends, as fast as its requests can be sent: they are made beforehand.

use crate::{caller::Caller, servers::Server};
use anyhow::{Context, Result};
use backstop_protocol::{
    api,
    id::{RecordHash, ServerKey, TimelineId},
    record::{RecordHeader, RecordKind, record_hash},
};

/// A request as the bytes that go over the wire.
pub type Wire = Vec<u8>;

/// A node with an open session, and the end of its chain.
pub struct LoadNode {
    caller: Caller,
    number: usize,
    seq: u64,
    prev: RecordHash,
}

impl LoadNode {
    /// So many nodes, numbered from `first`, each with a session.
    pub fn open_all(server: &Server, first: usize, count: usize) -> Result<Vec<Self>> {
        let key = Caller::new(server.address(), 1)?.server;
        (first..first + count)
            .map(|number| Self::open(server, key, number))
            .collect()
    }

    fn open(server: &Server, key: ServerKey, number: usize) -> Result<Self> {
        let mut caller = Caller::numbered(server.address(), key, number as u64)?;
        caller.open(caller.opening(0))?;
        Ok(Self {
            caller,
            number,
            seq: 0,
            prev: RecordHash::NONE,
        })
    }

    /// The next appends, of the lengths `sizes` in turn.
    pub fn requests(&mut self, sizes: &[usize], count: usize) -> Result<Vec<Wire>> {
        (0..count).map(|_| self.request(sizes)).collect()
    }

    /// The next append.
    pub fn request(&mut self, sizes: &[usize]) -> Result<Wire> {
        let sealed = self.record(sizes)?;
        let authorization = self.caller.authorization("POST", api::RECORDS, &sealed)?;
        let mut request = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nAuthorization: {authorization}\r\nContent-Length: {}\r\n\r\n",
            api::RECORDS,
            self.caller.address,
            sealed.len()
        )
        .into_bytes();
        request.extend_from_slice(&sealed);
        Ok(request)
    }

    fn record(&mut self, sizes: &[usize]) -> Result<Vec<u8>> {
        self.seq += 1;
        let header = RecordHeader {
            kind: RecordKind::Batch,
            timeline: TimelineId([7; 16]),
            epoch: 1,
            seq: self.seq,
            prev: self.prev,
            nonce: [0; 24],
        };
        let mut sealed = header.encode();
        // Every node is at another place of the input.
        let place = usize::try_from(self.seq)? + 97 * self.number;
        sealed.resize(sizes.get(place % sizes.len()).copied().context("no sizes")?, 0xa5);
        self.prev = record_hash(&sealed);
        Ok(sealed)
    }
}
