//! Content to record (SPEC 5.2).

use super::{
    CONTEXT_RECORDS, SQL_MAX, STATEMENTS_MAX,
    codec::{self, Encoder},
    content::{Batch, BatchHead, Codec, Content, Preamble},
    deflate::Deflater,
    padding::padded,
};
use crate::keys::RecordKey;
use backstop_protocol::{
    api::{PADDED_MIN, RECORD_MAX},
    bytes::Malformed,
    id::{RecordHash, TimelineId},
    record::{HEADER_LEN, RecordHeader, TAG_LEN, record_hash},
};
use bytes::Bytes;
use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305};
use rand_core::CryptoRng;

/// Bytes of the content's length, which stands before it.
pub(super) const LENGTH_LEN: usize = 4;
/// Buffers that grew beyond this for one record are given back after it.
const BUFFER_KEPT: usize = 1 << 20;

/// Where a record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The history.
    pub timeline: TimelineId,
    /// The writer's epoch, from 1.
    pub epoch: u64,
    /// Place in the timeline, from 1.
    pub seq: u64,
    /// The record before; [`RecordHash::NONE`] for the first.
    pub prev: RecordHash,
}

/// A sealed record: the same bytes to every server and in every retry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Its clear part.
    pub header: RecordHeader,
    /// SHA-256 of its bytes.
    pub hash: RecordHash,
    /// All of it.
    pub bytes: Bytes,
}

/// What is done to statements before they are sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Nothing: the padded size tells the size of the SQL, and nothing about what is in it.
    None,
    /// Shapes and whole values seen before are named, and the rest is deflated within the record.
    #[default]
    Full,
}

/// Why content was not sealed. Nothing was used up: the next record starts with an empty context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// More than a record can hold.
    #[error("a batch of {bytes} bytes is more than a record can hold")]
    TooLarge {
        /// Bytes of the statements, or of the sealed record.
        bytes: usize,
    },
    /// More statements than a record can hold.
    #[error("a batch of {count} statements is more than a record can hold")]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// The content or the place is one that no reader takes.
    #[error("a record that cannot be: {0}")]
    Refused(#[from] Malformed),
}

/// Seals the records of one writer, one after the other.
///
/// It remembers what earlier batches held, to write later ones shorter, and forgets it whenever a reader could not
/// follow: at a run's first record, after a gap, after [`Sealer::restart`], where a record does not follow the one
/// sealed before it, and by itself after [`CONTEXT_RECORDS`] records or when it has grown heavy.
pub struct Sealer {
    cipher: XChaCha20Poly1305,
    compression: Compression,
    encoder: Encoder,
    deflater: Deflater,
    context: Option<Context>,
    content: Vec<u8>,
    stream: Vec<u8>,
    deflated: Vec<u8>,
}

/// Where the encoder's context began, and the record that was sealed last.
#[derive(Clone, Copy)]
struct Context {
    start: u64,
    timeline: TimelineId,
    seq: u64,
    hash: RecordHash,
}

impl Context {
    /// Whether a record in that place follows the one that was sealed last.
    fn is_before(&self, place: Place) -> bool {
        self.timeline == place.timeline
            && self.hash == place.prev
            && self.seq.checked_add(1) == Some(place.seq)
    }
}

impl Sealer {
    /// A sealer with an empty context that compresses.
    #[must_use]
    pub fn new(key: &RecordKey) -> Self {
        Self::with_key(key.expose_bytes())
    }

    /// The same with another compression.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    pub(super) fn with_key(key: &[u8; 32]) -> Self {
        Self {
            cipher: XChaCha20Poly1305::new(key.into()),
            compression: Compression::default(),
            encoder: Encoder::default(),
            deflater: Deflater::new(),
            context: None,
            content: Vec::new(),
            stream: Vec::new(),
            deflated: Vec::new(),
        }
    }

    /// The next batch starts an empty context. A snapshot can be a base only after a record that such a batch
    /// follows, else what comes next needs records from below it: whoever plans a snapshot restarts first, and takes
    /// the last record sealed before that as its base.
    pub fn restart(&mut self) {
        self.context = None;
    }

    /// Seals one record under a fresh nonce.
    pub fn seal(
        &mut self,
        place: Place,
        content: &Content,
        rng: &mut dyn CryptoRng,
    ) -> Result<Sealed, SealError> {
        let mut nonce = [0; 24];
        rng.fill_bytes(&mut nonce);
        let header = RecordHeader {
            kind: content.kind(),
            timeline: place.timeline,
            epoch: place.epoch,
            seq: place.seq,
            prev: place.prev,
            nonce,
        };
        // Taken out, so that an error leaves none.
        let last = self
            .context
            .take()
            .filter(|last| last.is_before(place) && !content.opens_run());
        let start = self.write(place.seq, last.map(|last| last.start), content)?;
        let bytes = self.close(&header)?;
        let hash = record_hash(&bytes);
        self.context = start.map(|start| Context {
            start,
            timeline: place.timeline,
            seq: place.seq,
            hash,
        });
        for buffer in [&mut self.content, &mut self.stream, &mut self.deflated] {
            buffer.clear();
            buffer.shrink_to(BUFFER_KEPT);
        }
        Ok(Sealed {
            header,
            hash,
            bytes: bytes.into(),
        })
    }

    /// Writes `content` into the buffer of that name; returns where the context starts that goes on from here.
    fn write(&mut self, seq: u64, start: Option<u64>, content: &Content) -> Result<Option<u64>, SealError> {
        self.content.clear();
        Preamble::of(content).push(&mut self.content);
        match content {
            Content::Batch(batch) => self.write_batch(seq, start, batch),
            Content::Gap(gap) => {
                gap.push(&mut self.content);
                Ok(None)
            }
            Content::Policy(policy) => {
                policy.check()?;
                policy.push(&mut self.content);
                Ok(start)
            }
        }
    }

    fn write_batch(&mut self, seq: u64, start: Option<u64>, batch: &Batch) -> Result<Option<u64>, SealError> {
        let sql_len = batch.statements.iter().map(Vec::len).sum();
        if sql_len > SQL_MAX {
            return Err(SealError::TooLarge { bytes: sql_len });
        }
        if batch.statements.len() > STATEMENTS_MAX {
            return Err(SealError::TooMany {
                count: batch.statements.len(),
            });
        }
        let plain = |context_age| BatchHead {
            data_version: batch.data_version,
            context_age,
            codec: Codec::PLAIN,
            sql_len,
            stream_len: codec::plain_len(&batch.statements),
        };
        self.stream.clear();
        if self.compression == Compression::None {
            codec::push_plain(&batch.statements, &mut self.stream);
            self.finish(plain(0), false);
            return Ok(None);
        }
        let start = start.filter(|start| seq - start < CONTEXT_RECORDS && !self.encoder.is_heavy());
        let start = start.unwrap_or_else(|| {
            self.encoder.clear();
            seq
        });
        self.encoder
            .encode(batch.data_version, &batch.statements, &mut self.stream);
        let head = BatchHead {
            codec: Codec::SHAPES,
            stream_len: self.stream.len(),
            ..plain(seq - start)
        };
        let preamble_len = self.content.len();
        self.finish(head, true);
        self.deflated.clear();
        plain(0).push(&mut self.deflated);
        let plain_len = preamble_len + self.deflated.len() + plain(0).stream_len;
        // CLN's statements never come here: what the shapes cost was more than they saved.
        if padded(LENGTH_LEN + self.content.len()) > padded(LENGTH_LEN + plain_len) {
            self.content.truncate(preamble_len);
            self.stream.clear();
            codec::push_plain(&batch.statements, &mut self.stream);
            self.finish(plain(0), true);
            return Ok(None);
        }
        Ok(Some(start))
    }

    /// Appends head and stream to the content, the stream deflated where that is wanted and makes the record smaller.
    fn finish(&mut self, head: BatchHead, deflate: bool) {
        let start = self.content.len();
        head.push(&mut self.content);
        let as_is = padded(LENGTH_LEN + self.content.len() + self.stream.len());
        if deflate && as_is > PADDED_MIN && self.deflater.deflate(&self.stream, &mut self.deflated) {
            self.content.truncate(start);
            BatchHead {
                codec: Codec {
                    deflated: true,
                    ..head.codec
                },
                ..head
            }
            .push(&mut self.content);
            if padded(LENGTH_LEN + self.content.len() + self.deflated.len()) < as_is {
                self.content.extend_from_slice(&self.deflated);
                return;
            }
            self.content.truncate(start);
            head.push(&mut self.content);
        }
        self.content.extend_from_slice(&self.stream);
    }

    /// Header, length, content, zeros, sealed.
    fn close(&self, header: &RecordHeader) -> Result<Vec<u8>, SealError> {
        let too_large = SealError::TooLarge {
            bytes: self.content.len(),
        };
        let plain_len = padded(LENGTH_LEN + self.content.len());
        let sealed_len = plain_len.saturating_add(HEADER_LEN + TAG_LEN);
        if sealed_len > RECORD_MAX {
            return Err(too_large);
        }
        let mut bytes = Vec::with_capacity(sealed_len);
        bytes.extend_from_slice(&header.encode());
        let len = u32::try_from(self.content.len()).map_err(|_| too_large)?;
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(&self.content);
        bytes.resize(HEADER_LEN + plain_len, 0);
        let (clear, secret) = bytes.split_at_mut_checked(HEADER_LEN).ok_or(too_large)?;
        let tag = self
            .cipher
            .encrypt_inout_detached((&header.nonce).into(), clear, secret.into());
        bytes.extend_from_slice(&tag.map_err(|_| too_large)?);
        // No record leaves that a server or a reader would refuse by its header.
        RecordHeader::parse(&bytes)?;
        Ok(bytes)
    }
}
