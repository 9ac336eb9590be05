//! What comes out of a run of chunks while a snapshot is fetched: data goes into its place in the file, lists to whoever follows them.

use super::{
    chunk::CHUNK_LEN,
    located::{Keep, Located},
    target::Target,
};
use std::{io, sync::Arc};

/// What became of the chunks of a run.
pub(super) struct Kept {
    /// Where data goes.
    target: Option<Arc<Target>>,
    /// Bytes of data written.
    pub(super) written: u64,
    /// Lists, each with its place.
    pub(super) lists: Vec<(u32, Vec<u8>)>,
}

impl Kept {
    pub(super) fn to(target: Option<&Arc<Target>>) -> Self {
        Self {
            target: target.cloned(),
            written: 0,
            lists: Vec::new(),
        }
    }
}

impl Keep for Kept {
    fn keep(&mut self, chunk: &Located, plaintext: &[u8]) -> io::Result<()> {
        for at in &chunk.places {
            match &self.target {
                Some(target) => {
                    target.write(plaintext, u64::from(*at) * CHUNK_LEN as u64)?;
                    self.written += plaintext.len() as u64;
                }
                None => self.lists.push((*at, plaintext.to_vec())),
            }
        }
        Ok(())
    }
}
