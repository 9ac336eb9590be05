//! A recorded node lives again: its batches as they were, its runs as they were, on a database of its own.

use super::{Death, FailedStart, Lightningd, Options};
use crate::{fixtures::RecordedBatch, node::Node};
use anyhow::{Context, Result};
use std::{iter::Peekable, time::Duration};

impl Lightningd {
    /// Starts and executes recorded batches where its own first writes would be.
    pub fn start_recorded(
        node: &Node,
        options: &Options,
        before_init: &[RecordedBatch],
    ) -> Result<Self, Box<FailedStart>> {
        Self::start_with(node, options, |lightningd| {
            lightningd.simulated = false;
            for batch in before_init {
                lightningd.replay(batch)?;
            }
            // A migration ends with the VACUUM that no hook reports.
            if before_init.iter().any(RecordedBatch::is_upgrade) {
                lightningd.vacuum()?;
            }
            Ok(())
        })
    }

    /// Executes, reports and commits one recorded batch.
    pub fn replay(&mut self, batch: &RecordedBatch) -> Result<(), Death> {
        if batch.is_pragma() {
            for pragma in &batch.writes {
                self.wallet()?.execute_outside(pragma)?;
            }
            let writes: Vec<Vec<u8>> = batch
                .writes
                .iter()
                .map(|write| write.as_bytes().to_vec())
                .collect();
            return self.ask(batch.data_version, batch.data_version, &writes);
        }
        let wallet = self.wallet()?;
        for write in &batch.writes {
            wallet.execute_recorded(write)?;
        }
        let writes = wallet.take_recorded_version(batch.data_version)?;
        self.ask(batch.data_version - 1, batch.data_version, &writes)?;
        self.commit_open().map(|_| ())
    }
}

/// Plays a whole trace: the plugin starts and stops where the recorded lightningd did. Where the trace begins in the
/// middle of a run, its first batch is taken for one before `init`. How long every call of the hook took.
pub fn replay_trace(
    node: &Node,
    options: &Options,
    batches: impl Iterator<Item = Result<RecordedBatch>>,
    mut progress: impl FnMut(&RecordedBatch),
) -> Result<Vec<Duration>> {
    let mut batches = batches.peekable();
    let mut times = Vec::new();
    while let Some((run, before_init)) = start_of_run(&mut batches)? {
        before_init.iter().for_each(&mut progress);
        let mut lightningd = Lightningd::start_recorded(node, options, &before_init)?;
        while let Some(batch) = next_if(&mut batches, |batch| batch.run == run)? {
            progress(&batch);
            if let Err(death) = lightningd.replay(&batch) {
                let says = lightningd.plugin().says();
                return Err(death)
                    .with_context(|| format!("batch of version {}\n{says}", batch.data_version));
            }
        }
        times.extend_from_slice(lightningd.hook_times());
        let (status, says) = lightningd.stop(0)?;
        anyhow::ensure!(status == 0, "run {run} ended with status {status}\n{says}");
    }
    Ok(times)
}

type Batches<I> = Peekable<I>;

/// The next run's number and its batches before `init`, at least one.
fn start_of_run<I>(batches: &mut Batches<I>) -> Result<Option<(u64, Vec<RecordedBatch>)>>
where
    I: Iterator<Item = Result<RecordedBatch>>,
{
    let Some(first) = next_if(batches, |_| true)? else {
        return Ok(None);
    };
    let run = first.run;
    let mut before_init = vec![first];
    while let Some(batch) = next_if(batches, |batch| batch.run == run && batch.pre_init)? {
        before_init.push(batch);
    }
    Ok(Some((run, before_init)))
}

fn next_if<I>(
    batches: &mut Batches<I>,
    wanted: impl Fn(&RecordedBatch) -> bool,
) -> Result<Option<RecordedBatch>>
where
    I: Iterator<Item = Result<RecordedBatch>>,
{
    batches
        .next_if(|batch| batch.as_ref().map_or(true, &wanted))
        .transpose()
}
