//! What the tests of this module share.

use super::{Batch, Content, Opener, Place, Sealed, Sealer};
use backstop_protocol::id::{RecordHash, RunId, TimelineId};
use rand_core::Rng as _;
use std::convert::Infallible;

pub(super) const KEY: [u8; 32] = [0x42; 32];
pub(super) const TIMELINE: TimelineId = TimelineId([7; 16]);

/// Equal numbers in each test run (splitmix64).
pub(super) struct TestRng(pub(super) u64);

impl rand_core::TryRng for TestRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::try_from(self.try_next_u64()? >> 32).unwrap())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Ok(z ^ (z >> 31))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.try_next_u64()?.to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

impl rand_core::TryCryptoRng for TestRng {}

/// A writer that puts one record behind the other.
pub(super) struct Chain {
    pub(super) sealer: Sealer,
    pub(super) rng: TestRng,
    pub(super) next: Place,
}

impl Chain {
    pub(super) fn new() -> Self {
        Self {
            sealer: Sealer::with_key(&KEY),
            rng: TestRng(1),
            next: Place {
                timeline: TIMELINE,
                epoch: 1,
                seq: 1,
                prev: RecordHash::NONE,
            },
        }
    }

    pub(super) fn push(&mut self, content: &Content) -> Sealed {
        let sealed = self.sealer.seal(self.next, content, &mut self.rng).unwrap();
        self.next.seq += 1;
        self.next.prev = sealed.hash;
        sealed
    }
}

pub(super) fn opener() -> Opener {
    Opener::with_key(&KEY)
}

/// A batch that neither opens a run nor runs outside a transaction.
pub(super) fn batch<S: AsRef<[u8]>>(data_version: u64, statements: &[S]) -> Content {
    Content::Batch(Batch {
        run: RunId([9; 16]),
        opens_run: false,
        outside_transaction: false,
        data_version,
        statements: statements.iter().map(|sql| sql.as_ref().to_vec()).collect(),
    })
}

/// The first batch of a run.
pub(super) fn first_batch<S: AsRef<[u8]>>(data_version: u64, statements: &[S]) -> Content {
    match batch(data_version, statements) {
        Content::Batch(batch) => Content::Batch(Batch {
            opens_run: true,
            ..batch
        }),
        other => other,
    }
}

pub(super) fn random_hex(rng: &mut TestRng, len: usize) -> String {
    let mut bytes = vec![0; len];
    rng.fill_bytes(&mut bytes);
    hex::encode(bytes)
}

/// Statement `n` of a shape that comes again and again.
pub(super) fn update(n: u64) -> String {
    let mut rng = TestRng(n % 5);
    format!(
        "UPDATE channels SET next={n}, last_tx=x'{}', note='it''s' WHERE id={}",
        random_hex(&mut rng, 90),
        n % 3
    )
}
