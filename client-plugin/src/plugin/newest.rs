//! The newest records on a server, read far enough back to know what database they lead to.

use super::{halt::Halted, judge::Last};
use crate::{
    forward::records_to_head,
    record::{Opener, Peek},
    remote::RemoteError,
    spool::Source,
};
use backstop_protocol::{api::AccountState, record::RecordKind};

/// How many records before the head are read at first; a policy and an unfinished gap or two are all that can stand
/// between the head and the newest batch.
const FIRST_STEP: u64 = 4;

/// What the judgement needs to know of the server's newest record.
pub(super) async fn last(
    session: &impl Source,
    opener: &Opener,
    account: &AccountState,
) -> Result<Result<Option<Last>, Halted>, RemoteError> {
    let head = account.head;
    if head.is_empty() {
        return Ok(Ok(None));
    }
    let mut step = FIRST_STEP;
    loop {
        let from = head.seq.saturating_sub(step).max(account.first_seq).max(1);
        let records = records_to_head(session, from, head).await?;
        let peeked: Result<Vec<Peek>, _> = records.iter().rev().map(|sealed| opener.peek(sealed)).collect();
        let peeked = match peeked {
            Ok(peeked) => peeked,
            Err(error) => {
                return Ok(Err(Halted::new(format!(
                    "The newest record on {} cannot be opened with this node's key: {error}. The node is halted; nothing \
                     is lost. Either the key file or the server is not the right one.",
                    session.url()
                ))));
            }
        };
        let Some(newest) = peeked.first() else {
            return Ok(Ok(None));
        };
        let bridged = |gap: &Peek| {
            account
                .snapshot
                .is_some_and(|snapshot| snapshot.base_seq >= gap.header.seq)
        };
        let unbridged = newest.header.kind == RecordKind::Gap && !bridged(newest);
        let batch = peeked.iter().find_map(|peek| match peek.header.kind {
            RecordKind::Batch => Some((peek.data_version?, peek.run)),
            RecordKind::Gap if bridged(peek) => Some((peek.data_version?, peek.run)),
            _ => None,
        });
        if batch.is_some() || from <= account.first_seq.max(1) {
            return Ok(Ok(Some(Last {
                head,
                run: newest.run,
                data_version: batch.map(|(version, _)| version),
                wrote: batch.map_or(newest.run, |(_, run)| run),
                unbridged,
            })));
        }
        step = step.saturating_mul(8);
    }
}
