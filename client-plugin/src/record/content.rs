//! What a record holds, and the part of its sealed bytes that needs no context to read (SPEC 5.4).

use super::number;
use backstop_protocol::{
    bytes::{Malformed, Reader},
    id::{RunId, ServerKey, SnapshotId},
    record::RecordKind,
};

/// One `db_write` batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The life of the plugin that took it.
    pub run: RunId,
    /// Whether it is the first record of that run.
    pub opens_run: bool,
    /// Whether it holds PRAGMAs, which take effect outside a transaction only (CLN repeats the version for them).
    pub outside_transaction: bool,
    /// The version the database has after it.
    pub data_version: u64,
    /// The statements as CLN wrote them, byte by byte; not always UTF-8.
    pub statements: Vec<Vec<u8>>,
}

/// The database went on outside the log; the snapshot holds the state that the log goes on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The life of the plugin that found it.
    pub run: RunId,
    /// Whether it is the first record of that run.
    pub opens_run: bool,
    /// The version of the database in the snapshot.
    pub data_version: u64,
    /// The snapshot.
    pub snapshot: SnapshotId,
}

/// The servers that keep this node's backup, and how many of them must acknowledge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The life of the plugin that wrote it.
    pub run: RunId,
    /// Whether it is the first record of that run.
    pub opens_run: bool,
    /// From one to [`Policy::SERVERS_MAX`].
    pub servers: Vec<PolicyServer>,
    /// How many of them must acknowledge a record.
    pub require: Require,
    /// For how many seconds after the last request that enough servers confirmed the node may go on against a spool on its own disk, at most
    /// [`Policy::SPOOL_SECONDS_MAX`]; 0: never.
    pub spool_seconds: u64,
    /// Which machine and directory states it, for a machine that was taken over: at most [`Policy::BY_MAX`] bytes without control
    /// characters; empty where that is not known.
    pub by: String,
}

/// A server of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyServer {
    /// Where it answers; from one to [`Policy::URL_MAX`] bytes without control characters.
    pub url: String,
    /// Its identity.
    pub key: ServerKey,
}

/// How many servers of a policy must acknowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Require {
    /// Every one.
    All = 1,
    /// More than half.
    Majority = 2,
}

/// What a record holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A batch.
    Batch(Batch),
    /// A gap.
    Gap(Gap),
    /// A policy.
    Policy(Policy),
}

impl Content {
    /// The kind that stands in the clear header.
    #[must_use]
    pub fn kind(&self) -> RecordKind {
        match self {
            Self::Batch(_) => RecordKind::Batch,
            Self::Gap(_) => RecordKind::Gap,
            Self::Policy(_) => RecordKind::Policy,
        }
    }

    /// The life of the plugin that wrote it.
    #[must_use]
    pub fn run(&self) -> RunId {
        match self {
            Self::Batch(batch) => batch.run,
            Self::Gap(gap) => gap.run,
            Self::Policy(policy) => policy.run,
        }
    }

    /// Whether it is the first record of its run.
    #[must_use]
    pub fn opens_run(&self) -> bool {
        match self {
            Self::Batch(batch) => batch.opens_run,
            Self::Gap(gap) => gap.opens_run,
            Self::Policy(policy) => policy.opens_run,
        }
    }
}

const OPENS_RUN: u8 = 1;
const OUTSIDE_TRANSACTION: u8 = 2;

/// The first bytes of every content.
#[derive(Clone, Copy)]
pub(super) struct Preamble {
    pub(super) run: RunId,
    pub(super) opens_run: bool,
    pub(super) outside_transaction: bool,
}

impl Preamble {
    pub(super) fn of(content: &Content) -> Self {
        Self {
            run: content.run(),
            opens_run: content.opens_run(),
            outside_transaction: matches!(content, Content::Batch(batch) if batch.outside_transaction),
        }
    }

    pub(super) fn push(self, out: &mut Vec<u8>) {
        let opens_run = if self.opens_run { OPENS_RUN } else { 0 };
        let outside = if self.outside_transaction {
            OUTSIDE_TRANSACTION
        } else {
            0
        };
        out.push(opens_run | outside);
        out.extend_from_slice(&self.run.0);
    }

    pub(super) fn read(reader: &mut Reader<'_>, kind: RecordKind) -> Result<Self, Malformed> {
        let flags = reader.u8()?;
        let known = if kind == RecordKind::Batch {
            OPENS_RUN | OUTSIDE_TRANSACTION
        } else {
            OPENS_RUN
        };
        if flags & !known != 0 {
            return Err(Malformed::Field("flags"));
        }
        Ok(Self {
            run: RunId(reader.array()?),
            opens_run: flags & OPENS_RUN != 0,
            outside_transaction: flags & OUTSIDE_TRANSACTION != 0,
        })
    }
}

/// How a batch's statements are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Codec {
    /// As shapes and values in a context, else each behind its length.
    pub(super) shapes: bool,
    /// The stream is deflated.
    pub(super) deflated: bool,
}

impl Codec {
    pub(super) const PLAIN: Self = Self {
        shapes: false,
        deflated: false,
    };
    pub(super) const SHAPES: Self = Self {
        shapes: true,
        deflated: false,
    };

    fn byte(self) -> u8 {
        u8::from(self.deflated) | u8::from(self.shapes) << 1
    }

    fn from_byte(byte: u8) -> Result<Self, Malformed> {
        if byte > 3 {
            return Err(Malformed::Field("codec"));
        }
        Ok(Self {
            deflated: byte & 1 != 0,
            shapes: byte & 2 != 0,
        })
    }
}

/// What stands between a batch's preamble and its stream.
#[derive(Clone, Copy)]
pub(super) struct BatchHead {
    pub(super) data_version: u64,
    /// By how many records the start of the context lies before this one.
    pub(super) context_age: u64,
    pub(super) codec: Codec,
    /// Bytes of all statements together.
    pub(super) sql_len: usize,
    /// Bytes of the stream before it was deflated; written only where it was.
    pub(super) stream_len: usize,
}

impl BatchHead {
    pub(super) fn push(self, out: &mut Vec<u8>) {
        number::push(out, self.data_version);
        number::push(out, self.context_age);
        out.push(self.codec.byte());
        number::push_len(out, self.sql_len);
        if self.codec.deflated {
            number::push_len(out, self.stream_len);
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let data_version = number::read(reader)?;
        let context_age = number::read(reader)?;
        if context_age >= super::CONTEXT_RECORDS {
            return Err(Malformed::Field("context"));
        }
        let codec = Codec::from_byte(reader.u8()?)?;
        let sql_len = number::read_len(reader)?;
        if sql_len > super::SQL_MAX {
            return Err(Malformed::Field("length of statements"));
        }
        let stream_len = if codec.deflated {
            number::read_len(reader)?
        } else {
            reader.rest().len()
        };
        Ok(Self {
            data_version,
            context_age,
            codec,
            sql_len,
            stream_len,
        })
    }
}

impl Gap {
    pub(super) fn push(&self, out: &mut Vec<u8>) {
        number::push(out, self.data_version);
        out.extend_from_slice(&self.snapshot.0);
    }

    pub(super) fn read(preamble: Preamble, mut reader: Reader<'_>) -> Result<Self, Malformed> {
        let gap = Self {
            run: preamble.run,
            opens_run: preamble.opens_run,
            data_version: number::read(&mut reader)?,
            snapshot: SnapshotId(reader.array()?),
        };
        reader.end()?;
        Ok(gap)
    }
}

impl Policy {
    /// Most servers.
    pub const SERVERS_MAX: usize = 16;
    /// Longest URL, bytes.
    pub const URL_MAX: usize = 512;
    /// The longest spool, seconds.
    pub const SPOOL_SECONDS_MAX: u64 = 3600;
    /// Longest name of a machine and directory, bytes.
    pub const BY_MAX: usize = 512;

    /// What is wrong with it, if anything: the reader refuses what the writer must not seal.
    pub(super) fn check(&self) -> Result<(), Malformed> {
        if self.servers.is_empty() || self.servers.len() > Self::SERVERS_MAX {
            return Err(Malformed::Field("number of servers"));
        }
        for server in &self.servers {
            let url = &server.url;
            if url.is_empty() || url.len() > Self::URL_MAX || url.chars().any(char::is_control) {
                return Err(Malformed::Field("server URL"));
            }
        }
        let again = |(at, server): (usize, &PolicyServer)| {
            self.servers
                .iter()
                .take(at)
                .any(|before| before.key == server.key)
        };
        if self.servers.iter().enumerate().any(again) {
            return Err(Malformed::Field("server key: it stands there twice"));
        }
        if self.by.len() > Self::BY_MAX || self.by.chars().any(char::is_control) {
            return Err(Malformed::Field("name of the machine"));
        }
        if self.spool_seconds > Self::SPOOL_SECONDS_MAX {
            return Err(Malformed::Field("seconds of a spool"));
        }
        Ok(())
    }

    pub(super) fn push(&self, out: &mut Vec<u8>) {
        out.push(self.require as u8);
        number::push_len(out, self.servers.len());
        for server in &self.servers {
            number::push_len(out, server.url.len());
            out.extend_from_slice(server.url.as_bytes());
            out.extend_from_slice(&server.key.0);
        }
        // The second field stands behind the first.
        if self.spool_seconds > 0 || !self.by.is_empty() {
            number::push(out, self.spool_seconds);
        }
        if !self.by.is_empty() {
            number::push_len(out, self.by.len());
            out.extend_from_slice(self.by.as_bytes());
        }
    }

    pub(super) fn read(preamble: Preamble, mut reader: Reader<'_>) -> Result<Self, Malformed> {
        let require = match reader.u8()? {
            1 => Require::All,
            2 => Require::Majority,
            _ => return Err(Malformed::Field("number of servers required")),
        };
        let count = number::read_len(&mut reader)?;
        if count > Self::SERVERS_MAX {
            return Err(Malformed::Field("number of servers"));
        }
        let mut servers = Vec::with_capacity(count);
        for _ in 0..count {
            let len = number::read_len(&mut reader)?;
            let url = String::from_utf8(reader.take(len)?.to_vec());
            servers.push(PolicyServer {
                url: url.map_err(|_| Malformed::Field("server URL"))?,
                key: ServerKey(reader.array()?),
            });
        }
        let (mut spool_seconds, mut by) = (0, String::new());
        if count > 0 && !reader.rest().is_empty() {
            spool_seconds = number::read(&mut reader)?;
            if reader.rest().is_empty() {
                if spool_seconds == 0 {
                    return Err(Malformed::Field("seconds of a spool"));
                }
            } else {
                let more = reader.rest().len();
                let len = number::read_len(&mut reader)?;
                if len == 0 {
                    return Err(Malformed::Trailing(more));
                }
                let text = String::from_utf8(reader.take(len)?.to_vec());
                by = text.map_err(|_| Malformed::Field("name of the machine"))?;
            }
        }
        reader.end()?;
        let policy = Self {
            run: preamble.run,
            opens_run: preamble.opens_run,
            servers,
            require,
            spool_seconds,
            by,
        };
        policy.check()?;
        Ok(policy)
    }
}
