//! What the lengths of records tell somebody who chooses some bytes of them: measured, because the threat model says it in numbers.

use anyhow::{Context, Result, ensure};
use backstop::{
    keys::{Keys, Root},
    random::SharedRng,
    record::{Batch, Content, Place, Sealer},
};
use backstop_protocol::id::{RecordHash, RunId, TimelineId};
use backstop_tests::rng::Rng;

const SEED: u64 = 55;
const TRIALS: usize = 400;

/// Lengths of the records of these batches, one behind the other.
fn lengths(batches: &[Vec<String>]) -> Result<Vec<usize>> {
    let keys = Keys::derive(&Root::from_bytes([7; 32]));
    let mut sealer = Sealer::new(&keys.record);
    let mut rng = SharedRng::system();
    let mut place = Place {
        timeline: TimelineId([1; 16]),
        epoch: 1,
        seq: 1,
        prev: RecordHash::NONE,
    };
    let mut lengths = Vec::new();
    for (at, statements) in batches.iter().enumerate() {
        let content = Content::Batch(Batch {
            run: RunId([2; 16]),
            opens_run: at == 0,
            outside_transaction: false,
            data_version: at as u64 + 1,
            statements: statements.iter().map(|sql| sql.clone().into_bytes()).collect(),
        });
        let record = sealer.seal(place, &content, &mut rng)?;
        lengths.push(record.bytes.len());
        place.seq += 1;
        place.prev = record.hash;
    }
    Ok(lengths)
}

fn hex(bytes: &[u8]) -> String {
    hex::encode_upper(bytes)
}

/// What a node writes when it learns a preimage.
fn secret(value: &[u8]) -> String {
    format!(
        "UPDATE channel_htlcs SET hstate=9, payment_key=X'{}', routing_onion=NULL WHERE id=4711",
        hex(value)
    )
}

/// What it writes when a peer sends it something: the peer chose the value, and an onion beside it.
fn chosen(value: &[u8], onion: &[u8]) -> String {
    format!(
        "INSERT INTO channel_htlcs (id, channel_id, payment_hash, routing_onion) VALUES (4712, 3, X'{}', X'{}')",
        hex(value),
        hex(onion)
    )
}

fn version(at: u64) -> String {
    format!("UPDATE vars SET intval=intval+1 WHERE name='data_version' AND intval={at}")
}

/// A guess, and a secret that equals it in its first bytes.
struct Trial {
    guess: Vec<u8>,
    other: Vec<u8>,
    onion: Vec<u8>,
}

impl Trial {
    fn new(rng: &mut Rng) -> Self {
        Self {
            guess: rng.bytes(32),
            other: rng.bytes(32),
            onion: rng.bytes(64),
        }
    }

    fn secret(&self, right: usize) -> Vec<u8> {
        // From the first wrong byte on nothing is right, not even by chance.
        let wrong = self.guess.iter().zip(&self.other);
        let wrong = wrong.map(|(guess, other)| if guess == other { !other } else { *other });
        let right_ones = self.guess.iter().take(right).copied();
        right_ones.chain(wrong.skip(right)).collect()
    }

    /// The length of the record with the guess, one record after the one with the secret.
    fn after(&self, right: usize) -> Result<usize> {
        let records = lengths(&[
            vec![version(1)],
            vec![secret(&self.secret(right)), version(2)],
            vec![chosen(&self.guess, &self.onion), version(3)],
        ])?;
        records.get(2).copied().context("three records")
    }

    /// The length of one record with both.
    fn beside(&self, right: usize) -> Result<usize> {
        let records = lengths(&[
            vec![version(1)],
            vec![
                secret(&self.secret(right)),
                chosen(&self.guess, &self.onion),
                version(2),
            ],
        ])?;
        records.get(1).copied().context("two records")
    }
}

/// Of a hundred records, how many are shorter with so many bytes guessed than with none.
fn shorter(right: usize, length: fn(&Trial, usize) -> Result<usize>) -> Result<usize> {
    let mut rng = Rng::new(SEED);
    let mut shorter = 0;
    for _ in 0..TRIALS {
        let trial = Trial::new(&mut rng);
        shorter += usize::from(length(&trial, right)? < length(&trial, 0)?);
    }
    Ok(shorter * 100 / TRIALS)
}

#[test]
fn a_guess_that_is_right_in_all_but_its_last_byte_tells_nothing_of_another_record() -> Result<()> {
    let mut rng = Rng::new(SEED);
    for _ in 0..TRIALS {
        let trial = Trial::new(&mut rng);
        let wrong = trial.after(0)?;
        for right in [1, 4, 16, 31] {
            ensure!(
                trial.after(right)? == wrong,
                "seed {SEED}: {right} bytes were enough"
            );
        }
    }
    Ok(())
}

#[test]
fn what_the_threat_model_says_of_lengths_is_what_is_measured() -> Result<()> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/threat-model.md");
    let page = std::fs::read_to_string(page)?;
    let mut rows = Vec::new();
    for right in [2, 4, 8, 16, 31, 32] {
        rows.push(format!(
            "| {right} of 32 | {} of 100 | {} of 100 |",
            shorter(right, Trial::after)?,
            shorter(right, Trial::beside)?
        ));
    }
    for row in &rows {
        assert!(
            page.contains(row),
            "docs/threat-model.md should say:\n{}",
            rows.join("\n")
        );
    }
    Ok(())
}
