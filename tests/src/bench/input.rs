//! What is backed up: a real node's recorded batches, or a simulated one's where no recording is.

use crate::{
    fixtures::Fixtures,
    rng::Rng,
    schema,
    statement::Statement,
    wallet::{Wallet, WalletOptions},
    workload::Workload,
};
use anyhow::Result;
use backstop::{
    keys::{Keys, Root},
    random::SharedRng,
    record::{self, Content, Place, Sealer},
};
use backstop_protocol::id::{RecordHash, RunId, TimelineId};

/// Batches of a simulated node where nothing says how many.
const SIMULATED: usize = 5000;

/// One call of the hook.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Which start of lightningd it belongs to.
    pub run: u64,
    /// The version after it.
    pub data_version: u64,
    /// The statements.
    pub writes: Vec<Vec<u8>>,
}

impl Batch {
    /// What its record holds.
    fn content(&self, opens_run: bool) -> Content {
        Content::Batch(record::Batch {
            run: RunId([u8::try_from(self.run % 251).unwrap_or(0); 16]),
            opens_run,
            outside_transaction: self.writes.iter().all(|write| write.starts_with(b"PRAGMA")),
            data_version: self.data_version,
            statements: self.writes.clone(),
        })
    }
}

/// Batches in order, from a node's first one.
#[derive(Clone, Debug)]
pub struct Input {
    /// Whose they are.
    pub source: &'static str,
    /// The batches.
    pub batches: Vec<Batch>,
}

impl Input {
    /// The recorded batches as those of the node `node_id`, at most `limit` of them.
    pub fn load(node_id: &[u8; 33], limit: Option<usize>) -> Result<Self> {
        let Some(fixtures) = Fixtures::find()? else {
            return Ok(Self {
                source: "a simulated node",
                batches: simulated(node_id, limit.unwrap_or(SIMULATED))?,
            });
        };
        let batches = fixtures.batches(node_id)?.take(limit.unwrap_or(usize::MAX));
        let batches = batches.map(|batch| {
            let batch = batch?;
            Ok(Batch {
                run: batch.run,
                data_version: batch.data_version,
                writes: batch.writes.into_iter().map(String::into_bytes).collect(),
            })
        });
        Ok(Self {
            source: "a real node's trace",
            batches: batches.collect::<Result<_>>()?,
        })
    }

    /// The batches of each start of lightningd.
    pub fn runs(&self) -> impl Iterator<Item = &[Batch]> {
        self.batches.chunk_by(|a, b| a.run == b.run)
    }

    /// The length of each batch's record, sealed as the plugin does.
    pub fn sealed_sizes(&self) -> Result<Vec<usize>> {
        let keys = Keys::derive(&Root::from_bytes([6; 32]));
        let (mut sealer, mut rng) = (Sealer::new(&keys.record), SharedRng::system());
        let (mut seq, mut prev, mut sizes) = (0, RecordHash::NONE, Vec::new());
        for run in self.runs() {
            let mut opens_run = true;
            for batch in run {
                seq += 1;
                let place = Place {
                    timeline: TimelineId([1; 16]),
                    epoch: batch.run,
                    seq,
                    prev,
                };
                let record = sealer.seal(place, &batch.content(opens_run), &mut rng)?;
                (prev, opens_run) = (record.hash, false);
                sizes.push(record.bytes.len());
            }
        }
        Ok(sizes)
    }

    /// Bytes of all statements.
    pub fn sql_bytes(&self) -> u64 {
        let writes = self.batches.iter().flat_map(|batch| &batch.writes);
        writes.map(|write| write.len() as u64).sum()
    }
}

fn simulated(node_id: &[u8; 33], count: usize) -> Result<Vec<Batch>> {
    let directory = tempfile::tempdir()?;
    let options = WalletOptions {
        fsync: false,
        ..WalletOptions::default()
    };
    let mut wallet = Wallet::open(&directory.path().join("wallet"), options)?;
    let mut batches = Vec::new();
    for batch in schema::first_start(node_id) {
        match batch {
            schema::Batch::Transaction(statements) => batches.push(executed(&mut wallet, &statements)?),
            schema::Batch::Outside(pragma) => {
                wallet.execute_outside(pragma)?;
                batches.push(Batch {
                    run: 1,
                    data_version: wallet.version(),
                    writes: vec![pragma.as_bytes().to_vec()],
                });
            }
            // Nobody hears of a VACUUM.
            schema::Batch::Unreported => {}
        }
    }
    let mut rng = Rng::new(6);
    while batches.len() < count {
        for statements in Workload::new(&mut rng, wallet.connection()).payment()? {
            batches.push(executed(&mut wallet, &statements)?);
        }
    }
    Ok(batches)
}

fn executed(wallet: &mut Wallet, statements: &[Statement]) -> Result<Batch> {
    for statement in statements {
        wallet.execute(statement)?;
    }
    let (data_version, writes) = wallet.raise_version()?;
    wallet.commit()?;
    Ok(Batch {
        run: 1,
        data_version,
        writes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replayer::Replayer;
    use rusqlite::Connection;

    #[test]
    fn the_batches_of_the_simulated_node_replay_from_nothing() {
        let batches = simulated(&[2; 33], 200).unwrap();
        assert!(batches.len() >= 200);
        let mut replayer = Replayer::new(Connection::open_in_memory().unwrap()).unwrap();
        for batch in &batches {
            replayer.apply(&batch.writes).unwrap();
        }
    }
}
