//! Waiting for servers: one thread, which the command line has nothing else to do with meanwhile.

use super::{Here, NodeArgs, stop};
use crate::node::{Ambient, Node};
use anyhow::bail;

impl NodeArgs {
    /// The node that is meant, as this machine has it.
    pub(super) fn load(&self, here: &Here, ambient: Ambient) -> anyhow::Result<Node> {
        let files = self.find(here)?;
        let node = Node::load(&files.net(), ambient)?;
        // As the options name them: a socket may lie elsewhere than the directory alone tells.
        Ok(Node { files, ..node })
    }
}

/// Does the work to its end.
pub(super) fn wait<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(work);
    // A check of a large database may still be at work on a thread; nobody waits for it.
    runtime.shutdown_background();
    done
}

/// The same, unless a person or the system wants it to end; then it fails with these words.
pub(super) fn wait_or_stop<T>(
    work: impl Future<Output = anyhow::Result<T>>,
    stopped: &'static str,
) -> anyhow::Result<T> {
    wait(async {
        tokio::select! {
            done = work => done,
            () = stop::asked() => bail!(stopped),
        }
    })
}
