//! One server is brought to where another one is, by copying sealed records (SPEC 8.7).

use super::Member;
use crate::{remote::RemoteError, restore::BackupServer};
use backstop_protocol::{
    api::AccountState,
    head::Head,
    id::RecordHash,
    problem::ProblemCode,
    record::{RecordHeader, RecordKind, record_hash},
};
use std::cmp::Ordering;

/// Why a server cannot be brought to where another one is.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CopyError {
    /// One of the two.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The one to be brought forward holds another timeline.
    #[error("{url} holds another history of this node")]
    OtherHistory {
        /// The server.
        url: String,
    },
    /// The other one's log begins above.
    #[error(
        "its log ends at record {head}, and what comes next is kept nowhere any more (the log begins at record {first})"
    )]
    Hole {
        /// Where it ends.
        head: u64,
        /// Where the other one's log begins.
        first: u64,
    },
    /// Its log and the chain have no record in common any more.
    #[error(
        "its log and that of the other servers part before record {seq}, and what they had in common is kept nowhere any more"
    )]
    Fork {
        /// The record.
        seq: u64,
    },
    /// What the other one sent are not the records that lead to its head.
    #[error("the records that {url} sent do not lead to its head")]
    Chain {
        /// The server.
        url: String,
    },
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// How many records.
    pub records: u64,
    /// The last gap record among them.
    pub gap: Option<u64>,
}

/// Copies from `source` to `target`, whose account is `held`, what it lacks up to `goal`, which `source` has reached.
/// Every byte is as it was sealed. Where the target's log ends in records that never counted, the chain's take their place; where it
/// holds nothing, it begins with the record on which the source's newest snapshot rests.
pub async fn bring<S: Member>(
    target: &S,
    held: &AccountState,
    source: &impl BackupServer,
    goal: Head,
    urls: (&str, &str),
) -> Result<Copied, CopyError> {
    if held.head.hash == goal.hash {
        return Ok(Copied::default());
    }
    let theirs = source.account().await?;
    if held
        .timeline
        .is_some_and(|timeline| theirs.timeline != Some(timeline))
    {
        return Err(CopyError::OtherHistory {
            url: urls.0.to_owned(),
        });
    }
    if held.head.is_empty() {
        let base = theirs.snapshot.map_or(0, |snapshot| snapshot.base_seq);
        let first = base.min(goal.seq).max(theirs.first_seq).max(1);
        return from(first, target, held.head, source, goal, urls.1).await;
    }
    if theirs.first_seq > held.head.seq + 1 {
        return Err(CopyError::Hole {
            head: held.head.seq,
            first: theirs.first_seq,
        });
    }
    // From the target's last record on, to see whether it is the chain's; where it is not, from further and further back, until
    // there is one that both have.
    let floor = theirs.first_seq.max(held.first_seq).max(1);
    let mut first = held.head.seq.min(goal.seq).max(floor);
    let mut step = 1;
    loop {
        match from(first, target, held.head, source, goal, urls.1).await {
            Err(CopyError::Fork { .. }) if first > floor => {
                first = first.saturating_sub(step).max(floor);
                step *= 2;
            }
            done => return done,
        }
    }
}

/// Copies the records from `first` to `goal` to a server that ends in `held`.
async fn from<S: Member>(
    first: u64,
    target: &S,
    held: Head,
    source: &impl BackupServer,
    goal: Head,
    url: &str,
) -> Result<Copied, CopyError> {
    let chain = || CopyError::Chain { url: url.to_owned() };
    let mut copied = Copied::default();
    let mut next = first;
    let mut last: Option<RecordHash> = None;
    while next <= goal.seq {
        let page = source.records(next).await?;
        if page.is_empty() {
            return Err(chain());
        }
        for (_, sealed) in page {
            if next > goal.seq {
                break;
            }
            let header = RecordHeader::parse(&sealed).map_err(|_| chain())?;
            let hash = record_hash(&sealed);
            if header.seq != next || last.is_some_and(|last| last != header.prev) {
                return Err(chain());
            }
            last = Some(hash);
            next += 1;
            if hash == held.hash {
                continue;
            }
            let appended = target.append(sealed).await;
            if header.seq <= held.seq && is_not_next(&appended) {
                return Err(CopyError::Fork { seq: header.seq });
            }
            appended?;
            copied.records += 1;
            if header.kind == RecordKind::Gap {
                copied.gap = Some(header.seq);
            }
        }
    }
    if last == Some(goal.hash) {
        Ok(copied)
    } else {
        Err(chain())
    }
}

fn is_not_next<T>(appended: &Result<T, RemoteError>) -> bool {
    matches!(appended, Err(error) if error.code() == Some(ProblemCode::NotNext))
}

/// Whether what a server holds up to its head restores by itself (I2): from its first record or from a snapshot of its own, and with
/// no gap after that. `bridged` is the base of the newest snapshot at any server: above it, a gap is the judgement's matter.
pub async fn restores(
    server: &impl BackupServer,
    account: &AccountState,
    bridged: u64,
) -> Result<bool, RemoteError> {
    let base = account.snapshot.map_or(0, |snapshot| snapshot.base_seq);
    if account.first_seq > base + 1 {
        return Ok(false);
    }
    let mut next = base + 1;
    while next <= bridged.min(account.head.seq) {
        let page = server.records(next).await?;
        if page.is_empty() {
            return Ok(false);
        }
        for (_, sealed) in page {
            let kind = RecordHeader::parse(&sealed).map(|header| header.kind);
            if next <= bridged && !matches!(kind, Ok(RecordKind::Batch | RecordKind::Policy)) {
                return Ok(false);
            }
            next += 1;
        }
    }
    Ok(true)
}

/// The greatest head.
pub fn newest<'a, T>(
    servers: impl IntoIterator<Item = (T, &'a AccountState)>,
) -> Option<(T, &'a AccountState)> {
    // The first of equals, of those the one with the newest snapshot.
    let rank = |account: &AccountState| account.snapshot.map_or(0, |snapshot| snapshot.base_seq);
    servers.into_iter().reduce(|best, other| {
        let order = other.1.head.cmp_place(&best.1.head);
        match order.then(rank(other.1).cmp(&rank(best.1))) {
            Ordering::Greater => other,
            _ => best,
        }
    })
}
