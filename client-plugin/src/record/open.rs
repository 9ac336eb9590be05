//! Record to content (SPEC 5). Everything is checked twice over: the seal proves who wrote it, and the
//! parser holds even if a writer of ours had a bug (I12).

use super::{
    codec::{self, Decoder},
    content::{Batch, BatchHead, Content, Gap, Policy, Preamble},
    deflate::Inflater,
    padding::padded,
    seal::LENGTH_LEN,
};
use crate::keys::RecordKey;
use backstop_protocol::{
    api::RECORD_MAX,
    bytes::{Malformed, Reader},
    id::{RecordHash, RunId},
    record::{HEADER_LEN, RecordHeader, RecordKind, TAG_LEN, record_hash},
};
use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305};

/// Why a record was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The bytes are not a record, or what was sealed is not the content of one.
    #[error("the record is malformed: {0}")]
    Malformed(#[from] Malformed),
    /// Longer than a record can be.
    #[error("the record is longer than a record can be")]
    TooLong,
    /// It was not sealed under this key, or was changed since.
    #[error("the record was changed, or belongs to another node")]
    BadSeal,
    /// It can be read only after the records from `context_seq` on, in order.
    #[error("the record can be read only after those from {context_seq} on")]
    ContextMissing {
        /// The record to begin with.
        context_seq: u64,
    },
}

/// What can be read of a record without those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peek {
    /// The clear part.
    pub header: RecordHeader,
    /// The life of the plugin that wrote it.
    pub run: RunId,
    /// Whether it is the first record of that run.
    pub opens_run: bool,
    /// Whether it is a batch of PRAGMAs.
    pub outside_transaction: bool,
    /// The version of the database after it; a policy has none.
    pub data_version: Option<u64>,
    /// The record with which a reader must begin in order to open this one; its own seq where it needs no other.
    pub context_seq: u64,
}

/// Opens the records of one chain, one after the other; it may begin at any record that needs no other.
pub struct Opener {
    cipher: XChaCha20Poly1305,
    decoder: Decoder,
    inflater: Inflater,
    /// Where the context began, and the record that was opened last.
    context: Option<Context>,
}

#[derive(Clone, Copy)]
struct Context {
    start: u64,
    hash: RecordHash,
}

impl Opener {
    /// An opener that has seen nothing.
    #[must_use]
    pub fn new(key: &RecordKey) -> Self {
        Self::with_key(key.expose_bytes())
    }

    pub(super) fn with_key(key: &[u8; 32]) -> Self {
        Self {
            cipher: XChaCha20Poly1305::new(key.into()),
            decoder: Decoder::default(),
            inflater: Inflater::new(),
            context: None,
        }
    }

    /// Authenticates a record and reads it. A record whose context was not followed from its start is refused. After
    /// a refusal the record that should have come can still be opened; only where sealed statements made no sense
    /// is the context lost.
    pub fn open(&mut self, sealed: &[u8]) -> Result<(RecordHeader, Content), OpenError> {
        let (header, plain) = self.unseal(sealed)?;
        // A record follows the last one only if it names its hash.
        let start = self
            .context
            .filter(|last| last.hash == header.prev)
            .map(|last| last.start);
        let (start, content) = self.read(&header, start, &plain)?;
        self.context = start.map(|start| Context {
            start,
            hash: record_hash(sealed),
        });
        Ok((header, content))
    }

    /// Authenticates a record and reads what needs no other record. Nothing is remembered.
    pub fn peek(&self, sealed: &[u8]) -> Result<Peek, OpenError> {
        let (header, plain) = self.unseal(sealed)?;
        let mut reader = content(&plain)?;
        let preamble = Preamble::read(&mut reader, header.kind)?;
        let (data_version, age) = match header.kind {
            RecordKind::Batch => {
                let head = BatchHead::read(&mut reader)?;
                (Some(head.data_version), head.context_age)
            }
            RecordKind::Gap => (Some(Gap::read(preamble, reader)?.data_version), 0),
            RecordKind::Policy => (None, 0),
        };
        Ok(Peek {
            header,
            run: preamble.run,
            opens_run: preamble.opens_run,
            outside_transaction: preamble.outside_transaction,
            data_version,
            context_seq: context_seq(&header, preamble, age)?,
        })
    }

    /// The header and the padded content.
    fn unseal(&self, sealed: &[u8]) -> Result<(RecordHeader, Vec<u8>), OpenError> {
        if sealed.len() > RECORD_MAX {
            return Err(OpenError::TooLong);
        }
        let header = RecordHeader::parse(sealed)?;
        let (clear, secret) = sealed.split_at_checked(HEADER_LEN).ok_or(Malformed::Short)?;
        let (secret, tag) = secret.split_last_chunk::<TAG_LEN>().ok_or(Malformed::Short)?;
        let mut plain = secret.to_vec();
        self.cipher
            .decrypt_inout_detached(
                (&header.nonce).into(),
                clear,
                plain.as_mut_slice().into(),
                tag.into(),
            )
            .map_err(|_| OpenError::BadSeal)?;
        Ok((header, plain))
    }

    /// The content, and where the context starts that goes on from here.
    fn read(
        &mut self,
        header: &RecordHeader,
        start: Option<u64>,
        plain: &[u8],
    ) -> Result<(Option<u64>, Content), OpenError> {
        let mut reader = content(plain)?;
        let preamble = Preamble::read(&mut reader, header.kind)?;
        match header.kind {
            RecordKind::Gap => Ok((None, Content::Gap(Gap::read(preamble, reader)?))),
            RecordKind::Policy => {
                let start = start.filter(|_| !preamble.opens_run);
                Ok((start, Content::Policy(Policy::read(preamble, reader)?)))
            }
            RecordKind::Batch => {
                let head = BatchHead::read(&mut reader)?;
                let context_seq = context_seq(header, preamble, head.context_age)?;
                if context_seq != header.seq && start != Some(context_seq) {
                    return Err(OpenError::ContextMissing { context_seq });
                }
                // From here on an error leaves the decoder nowhere.
                self.context = None;
                if context_seq == header.seq {
                    self.decoder.clear();
                }
                let statements = self.statements(&head, reader.rest())?;
                let batch = Batch {
                    run: preamble.run,
                    opens_run: preamble.opens_run,
                    outside_transaction: preamble.outside_transaction,
                    data_version: head.data_version,
                    statements,
                };
                Ok((Some(context_seq), Content::Batch(batch)))
            }
        }
    }

    fn statements(&mut self, head: &BatchHead, stream: &[u8]) -> Result<Vec<Vec<u8>>, Malformed> {
        let inflated;
        let stream = if head.codec.deflated {
            inflated = self.inflater.inflate(stream, head.stream_len)?;
            &inflated
        } else {
            stream
        };
        if head.codec.shapes {
            self.decoder.decode(head.data_version, stream, head.sql_len)
        } else {
            codec::read_plain(stream, head.sql_len)
        }
    }
}

/// The content inside its padding, which must be exactly what the specification asks for.
fn content(plain: &[u8]) -> Result<Reader<'_>, Malformed> {
    let mut reader = Reader::new(plain);
    let content = reader.blob()?;
    if plain.len() != padded(LENGTH_LEN + content.len()) || reader.rest().iter().any(|byte| *byte != 0) {
        return Err(Malformed::Field("padding"));
    }
    Ok(Reader::new(content))
}

/// The record with which a batch's context began: never one before its run, or before the timeline.
fn context_seq(header: &RecordHeader, preamble: Preamble, age: u64) -> Result<u64, Malformed> {
    match header.seq.checked_sub(age) {
        Some(seq) if seq > 0 && (age == 0 || !preamble.opens_run) => Ok(seq),
        _ => Err(Malformed::Field("context")),
    }
}
