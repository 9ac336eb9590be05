//! Checked reading of big-endian binary formats: no parser of ours indexes a slice by itself (I12).

/// What a binary parser found instead of what it expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The input ends before the field does.
    #[error("cut short")]
    Short,
    /// Bytes remain after the last field.
    #[error("{0} bytes too many")]
    Trailing(usize),
    /// The input does not start with the magic of its format.
    #[error("not a Backstop object")]
    Magic,
    /// A version that this reader does not know.
    #[error("format version {0} is unknown to this program")]
    Version(u8),
    /// The object is of another kind than the one expected.
    #[error("kind {0} is not expected here")]
    Kind(u8),
    /// A field has a value that the format forbids.
    #[error("bad {0}")]
    Field(&'static str),
}

impl Malformed {
    /// The stable name by which test vectors and logs call it; a forbidden value goes by its field's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Trailing(_) => "trailing",
            Self::Magic => "magic",
            Self::Version(_) => "version",
            Self::Kind(_) => "kind",
            Self::Field(field) => field.split(':').next().unwrap_or(field),
        }
    }
}

/// A cursor over a byte slice; every read says whether there was enough.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the beginning of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `len` bytes, or [`Malformed::Short`].
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes as an array, or [`Malformed::Short`].
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(*head)
    }

    /// One byte, or [`Malformed::Short`].
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    /// A big-endian `u16`, or [`Malformed::Short`].
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// A big-endian `u32`, or [`Malformed::Short`].
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// A big-endian `u64`, or [`Malformed::Short`].
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A `u32` length and that many bytes, or [`Malformed::Short`].
    pub fn blob(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u32()?;
        self.take(usize::try_from(len).map_err(|_| Malformed::Short)?)
    }

    /// Magic, version and kind: the first six bytes of every Backstop object.
    pub fn preamble(&mut self, kind: u8) -> Result<(), Malformed> {
        let found = self.preamble_kind()?;
        if found == kind {
            Ok(())
        } else {
            Err(Malformed::Kind(found))
        }
    }

    /// Magic and version; returns the kind that follows.
    pub fn preamble_kind(&mut self) -> Result<u8, Malformed> {
        if self.array::<4>()? != crate::MAGIC {
            return Err(Malformed::Magic);
        }
        let version = self.u8()?;
        if version != crate::PROTOCOL_VERSION {
            return Err(Malformed::Version(version));
        }
        self.u8()
    }

    /// Succeeds where everything was read, else [`Malformed::Trailing`].
    pub fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed::Trailing(self.rest.len()))
        }
    }
}

/// Kinds of Backstop objects: the sixth byte of each.
pub mod kind {
    /// A sealed `db_write` batch.
    pub const BATCH: u8 = 1;
    /// A sealed gap: the database went on without us, the named snapshot bridges it.
    pub const GAP: u8 = 2;
    /// A sealed list of servers and how many must acknowledge.
    pub const POLICY: u8 = 3;
    /// A pack of sealed chunks.
    pub const PACK: u8 = 16;
    /// A sealed manifest.
    pub const MANIFEST: u8 = 17;
    /// The node's files beside its database, sealed as one.
    pub const FILES: u8 = 18;
}

/// The six bytes with which an object of `kind` starts.
#[must_use]
pub fn preamble(kind: u8) -> [u8; 6] {
    let [a, b, c, d] = crate::MAGIC;
    [a, b, c, d, crate::PROTOCOL_VERSION, kind]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_the_input_is_cut_short_and_consumes_nothing_more() {
        let mut reader = Reader::new(&[0, 0, 0, 9, 1, 2]);
        assert_eq!(reader.blob(), Err(Malformed::Short));
    }

    #[test]
    fn bytes_after_the_last_field_are_refused() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert_eq!(reader.u16(), Ok(0x0102));
        assert_eq!(reader.end(), Err(Malformed::Trailing(1)));
    }

    #[test]
    fn a_preamble_names_what_is_wrong_with_it() {
        let good = preamble(kind::BATCH);
        assert_eq!(Reader::new(&good).preamble(kind::BATCH), Ok(()));
        assert_eq!(
            Reader::new(&good).preamble(kind::GAP),
            Err(Malformed::Kind(kind::BATCH))
        );
        assert_eq!(
            Reader::new(b"NOPE\x01\x01").preamble(kind::BATCH),
            Err(Malformed::Magic)
        );
        assert_eq!(
            Reader::new(b"BKSP\x09\x01").preamble(kind::BATCH),
            Err(Malformed::Version(9))
        );
        assert_eq!(Reader::new(b"BKS").preamble(kind::BATCH), Err(Malformed::Short));
    }
}
