//! `backstop history`: which past states of this node can be looked at?

use super::{Here, NodeArgs, wait::wait, when::Stamp};
use crate::{
    node::{Ambient, Node},
    restore::{History, RestoreError},
};
use backstop_protocol::{
    api::{FilesInfo, Proof, SnapshotInfo},
    clock::UnixMillis,
    head::Head,
    id::{Network, NodeId},
};
use serde::Serialize;
use std::io::{self, Write};

/// List the points in time that `backstop restore --at` reaches.
///
/// That is the state after any record from the oldest one to the newest. They are to be looked at: starting a node on an old state
/// forfeits its channel funds.
#[derive(clap::Args)]
#[command(after_help = "Examples:

  backstop history --network bitcoin
  backstop restore --at 2026-11-22T17:00:00Z --lightning-dir ~/.lightning --network bitcoin --to /tmp/then")]
pub(super) struct Args {
    #[command(flatten)]
    node: NodeArgs,
    /// Print JSON for programs.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints; members are added, never changed.
#[derive(Debug, Serialize)]
struct Listed {
    node: NodeId,
    network: Network,
    server: String,
    /// The oldest record whose state can be rebuilt; `null` where none can.
    oldest: Option<u64>,
    /// Where the backup ends, and so does what can be rebuilt.
    head: Head,
    head_received_at: Option<UnixMillis>,
    /// The first record of the log; 0 where it is empty.
    first_seq: u64,
    first_received_at: Option<UnixMillis>,
    log_bytes: u64,
    /// The newest first.
    snapshots: Vec<SnapshotInfo>,
    /// The newest files beside the database.
    files: Option<FilesInfo>,
    /// The last comparison with the node's own database.
    proof: Option<Proof>,
    /// Since when nothing is dropped, because a comparison failed.
    held_since: Option<UnixMillis>,
}

/// Runs the command.
pub(super) fn command(args: &Args, here: &Here, ambient: Ambient) -> anyhow::Result<()> {
    let node = args.node.load(here, ambient)?;
    let listed = wait(async { Ok(list(&node).await?) })?;
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&listed)?)?;
    } else {
        listed.report(&mut out)?;
    }
    Ok(())
}

async fn list(node: &Node) -> Result<Listed, RestoreError> {
    let (session, account) = node.open_reader().await?;
    let history = History::read(&session, account).await?;
    let account = history.account;
    Ok(Listed {
        node: account.node,
        network: account.network,
        server: session.url().to_owned(),
        oldest: history.oldest,
        head: account.head,
        head_received_at: account.head_received_at,
        first_seq: account.first_seq,
        first_received_at: history.first_received_at,
        log_bytes: account.log_bytes,
        snapshots: history.snapshots,
        files: account.files,
        proof: account.proof,
        held_since: account.held_since,
    })
}

impl Listed {
    fn report(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "node      {} on {}", self.node, self.network)?;
        writeln!(out, "server    {}", self.server)?;
        let Some(oldest) = self.oldest else {
            return writeln!(
                out,
                "Nothing is kept yet from which a state of this node can be rebuilt."
            );
        };
        writeln!(out, "reaches   any record from {oldest} to {}", self.head.seq)?;
        if let (Some(first), Some(last)) = (self.first_received_at, self.head_received_at) {
            writeln!(
                out,
                "log       records {} to {}, {} bytes, received {} to {}",
                self.first_seq,
                self.head.seq,
                self.log_bytes,
                Stamp(first),
                Stamp(last)
            )?;
        }
        if !self.snapshots.is_empty() {
            writeln!(
                out,
                "\n{:>14}  {:<24}  {:>16}",
                "after record", "snapshot taken", "bytes"
            )?;
        }
        for snapshot in &self.snapshots {
            writeln!(
                out,
                "{:>14}  {:<24}  {:>16}",
                snapshot.base_seq,
                Stamp(snapshot.committed_at).to_string(),
                snapshot.bytes
            )?;
        }
        if let Some(since) = self.held_since {
            writeln!(out, "\n{}", held(since))?;
        }
        writeln!(
            out,
            "\nTo look at one: backstop restore --at RECORD or TIME. Starting a node on an old state forfeits its channel \
             funds."
        )
    }
}

/// What a person must know where a failed comparison is held.
pub(super) fn held(since: UnixMillis) -> String {
    format!(
        "HELD: at {} the backup and the node's own database were found to differ. A snapshot of the database is what a \
         restore uses; the branch before it is kept, and nothing is dropped, until you type: backstop accept",
        Stamp(since)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_protocol::id::{RecordHash, SnapshotId};

    fn listed() -> Listed {
        Listed {
            node: NodeId([2; 33]),
            network: Network::Regtest,
            server: "http://server".to_owned(),
            oldest: Some(20),
            head: Head {
                epoch: 1,
                seq: 30,
                hash: RecordHash([1; 32]),
            },
            head_received_at: Some(UnixMillis(1_795_366_800_250)),
            first_seq: 21,
            first_received_at: Some(UnixMillis(1_795_363_200_000)),
            log_bytes: 7000,
            snapshots: vec![SnapshotInfo {
                snapshot: SnapshotId([3; 16]),
                base_seq: 20,
                base_hash: RecordHash([2; 32]),
                committed_at: UnixMillis(1_795_363_200_000),
                bytes: 123_456,
            }],
            files: None,
            proof: None,
            held_since: None,
        }
    }

    fn said(listed: &Listed) -> String {
        let mut out = Vec::new();
        listed.report(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn it_says_what_is_reached_and_what_an_old_state_is_good_for() {
        let said = said(&listed());
        for words in [
            "any record from 20 to 30",
            "received 2026-11-22T16:00:00.000Z to 2026-11-22T17:00:00.250Z",
            "2026-11-22T16:00:00.000Z            123456",
            "forfeits its channel funds",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert!(!said.contains("HELD"), "{said}");
    }

    #[test]
    fn a_branch_that_is_held_is_named_with_the_command_that_lets_it_go() {
        let held = Listed {
            held_since: Some(UnixMillis(1_795_363_200_000)),
            ..listed()
        };
        let said = said(&held);
        assert!(said.contains("HELD: at 2026-11-22T16:00:00.000Z"), "{said}");
        assert!(said.contains("backstop accept"), "{said}");
    }

    #[test]
    fn where_nothing_can_be_rebuilt_it_says_so() {
        let nothing = Listed {
            oldest: None,
            ..listed()
        };
        assert!(said(&nothing).contains("Nothing is kept yet"));
    }
}
