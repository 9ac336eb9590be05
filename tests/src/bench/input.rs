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
