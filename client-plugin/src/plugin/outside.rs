//! The same judgement without becoming the writer: for `status`, beside a running node or a stopped one.

use super::{
    halt::Halted,
    judge::{Halt, against_witness},
    newest,
};
use crate::{
    node::Node,
    record::Opener,
    remote::{RemoteError, Session},
};
use backstop_protocol::{api::AccountState, id::RunId};

/// What a look at a server shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Whether what is there restores to its head.
    pub(crate) restorable: bool,
    /// Why the node would be halted at its next start.
    pub(crate) halt: Option<String>,
}

/// Looks at the newest record, with this node's keys and witness.
pub(crate) async fn look(
    node: &Node,
    session: &Session,
    account: &AccountState,
) -> Result<Seen, RemoteError> {
    let halted = |halt: Halted| Seen {
        restorable: false,
        halt: Some(halt.to_string()),
    };
    let witness = node.directory.witness().unwrap_or_default();
    let last = match newest::last(session, &Opener::new(&node.keys.record), account).await? {
        Ok(last) => last,
        Err(halt) => return Ok(halted(halt)),
    };
    let server_lost = |server| {
        witness.map(|witness| Halt::ServerLost {
            witness: witness.head,
            server,
        })
    };
    let Some((timeline, last)) = account.timeline.zip(last) else {
        let halt = server_lost(None).map(|halt| Halted::judged(halt, &node.network_dir).to_string());
        return Ok(Seen {
            restorable: false,
            halt,
        });
    };
    let runs = node.directory.runs().unwrap_or_default();
    let known = witness.is_some_and(|witness| witness.head == last.head)
        || runs.is_some_and(|runs| runs.knows(last.run));
    let halt = witness
        .and_then(|witness| against_witness(&witness, timeline, last.head))
        .or_else(|| (!known).then_some(Halt::UnknownWriter { server: last.head }));
    Ok(Seen {
        restorable: last.data_version.is_some() && !last.unbridged,
        halt: halt.map(|halt| Halted::judged(halt, &node.network_dir).to_string()),
    })
}

/// The run that wrote the newest record, and the version of the database that the newest batch or bridged gap leads to.
pub(crate) async fn newest_run(
    node: &Node,
    session: &Session,
    account: &AccountState,
) -> anyhow::Result<Option<(RunId, Option<u64>)>> {
    match newest::last(session, &Opener::new(&node.keys.record), account).await? {
        Ok(last) => Ok(last.map(|last| (last.run, last.data_version))),
        Err(halt) => anyhow::bail!("{halt}"),
    }
}

/// The version alone.
pub(crate) async fn newest_version(
    node: &Node,
    session: &Session,
    account: &AccountState,
) -> anyhow::Result<Option<u64>> {
    let newest = newest_run(node, session, account).await?;
    Ok(newest.and_then(|(_, version)| version))
}
