//! What a request carries.

use backstop_protocol::hash::sha256;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Read as _, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
};

/// How much of a file is read at once.
const PIECE: usize = 64 << 10;

/// A body in a file, which is removed when it is no longer needed: it may be too long for memory.
#[derive(Debug)]
pub struct BodyFile {
    path: PathBuf,
    len: u64,
    hash: [u8; 32],
}

impl BodyFile {
    /// Writes it to `path`, in place of what a killed process left there. `content` writes the bytes.
    pub fn write<E: From<io::Error>>(
        path: PathBuf,
        content: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<Self, E> {
        remove(&path)?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        let mut body = Self {
            path,
            len: 0,
            hash: [0; 32],
        };
        let mut writer = Measured {
            file: BufWriter::new(file),
            len: 0,
            hash: Sha256::new(),
        };
        content(&mut writer)?;
        writer.flush()?;
        body.len = writer.len;
        body.hash = writer.hash.finalize().into();
        Ok(body)
    }

    /// The bytes, from the first one.
    pub fn open(&self) -> io::Result<File> {
        File::open(&self.path)
    }
}

impl Drop for BodyFile {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next one.
        let _ = remove(&self.path);
    }
}

fn remove(path: &std::path::Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The file, and what a request must know of it before it is sent.
struct Measured {
    file: BufWriter<File>,
    len: u64,
    hash: Sha256,
}

impl Write for Measured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Bytes in memory, or in a file.
#[derive(Clone)]
pub(super) enum Body<'a> {
    Bytes(Bytes),
    /// Bytes whose SHA-256 is known.
    Hashed(Bytes, [u8; 32]),
    File(&'a BodyFile),
}

impl Body<'_> {
    /// For the request's MAC.
    pub(super) fn hash(&self) -> [u8; 32] {
        match self {
            Self::Bytes(bytes) => sha256(bytes),
            Self::Hashed(_, hash) => *hash,
            Self::File(file) => file.hash,
        }
    }

    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) | Self::Hashed(bytes, _) => bytes.len() as u64,
            Self::File(file) => file.len,
        }
    }

    /// For the client under everything.
    pub(super) fn to_reqwest(&self) -> io::Result<reqwest::Body> {
        Ok(match self {
            Self::Bytes(bytes) | Self::Hashed(bytes, _) => bytes.clone().into(),
            Self::File(file) => reqwest::Body::wrap(Reading {
                left: file.len,
                file: file.open()?,
            }),
        })
    }
}

impl From<Bytes> for Body<'_> {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

/// Reads a file while it is sent. Its pieces are in the page cache, where they were just written.
struct Reading {
    file: File,
    left: u64,
}

impl HttpBody for Reading {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let wanted = usize::try_from(self.left).unwrap_or(PIECE).min(PIECE);
        let mut piece = vec![0; wanted];
        Poll::Ready(Some(self.file.read_exact(&mut piece).map(|()| {
            self.left -= wanted as u64;
            Frame::data(piece.into())
        })))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
