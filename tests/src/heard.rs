//! What the plugin `yes-plugin` was told, in a file.

use anyhow::{Context, Result};
use serde::{Deserialize, Deserializer, de::Visitor};
use std::{fmt, io::Write, path::Path};

/// A JSON string as bytes, which need not be UTF-8.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Whatever;
        impl Visitor<'_> for Whatever {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Whatever)
    }
}

/// One batch as it was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Its version.
    pub data_version: u64,
    /// Its statements.
    pub writes: Vec<Bytes>,
}

/// Appends a batch: version, count, and every statement behind its length, all as u64.
pub fn write(log: &mut impl Write, data_version: u64, writes: &[Bytes]) -> Result<()> {
    let mut out = Vec::new();
    out.extend_from_slice(&data_version.to_be_bytes());
    out.extend_from_slice(&(writes.len() as u64).to_be_bytes());
    for write in writes {
        out.extend_from_slice(&(write.0.len() as u64).to_be_bytes());
        out.extend_from_slice(&write.0);
    }
    Ok(log.write_all(&out)?)
}

/// Reads all of them.
pub fn read(path: &Path) -> Result<Vec<Heard>> {
    let bytes = std::fs::read(path)?;
    let mut rest = bytes.as_slice();
    let number = |rest: &mut &[u8]| -> Result<u64> {
        let (head, tail) = rest.split_first_chunk::<8>().context("cut off")?;
        *rest = tail;
        Ok(u64::from_be_bytes(*head))
    };
    let mut heard = Vec::new();
    while !rest.is_empty() {
        let (data_version, count) = (number(&mut rest)?, number(&mut rest)?);
        let mut writes = Vec::new();
        for _ in 0..count {
            let len = usize::try_from(number(&mut rest)?)?;
            let (write, tail) = rest.split_at_checked(len).context("cut off")?;
            writes.push(Bytes(write.to_vec()));
            rest = tail;
        }
        heard.push(Heard { data_version, writes });
    }
    Ok(heard)
}
