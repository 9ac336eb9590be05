//! `restore` and `adopt`: M - N + 1 servers refuse every other writer, then the newest head among them is the backup's end (I7).

use super::{Claimed, CopyError, Door, Held, Member as _, Who, bring, claim, newest};
use crate::{
    keys::Keys,
    record::{Content, Place, Policy, Sealer},
    remote::{BodyFile, RemoteError},
    restore::BackupServer,
    snapshot::ChunkServer,
};
use backstop_protocol::{
    api::{AccountState, SnapshotInfo},
    chunk::ChunkPlace,
    clock::UnixMillis,
    head::Head,
    id::{ChunkId, PackId, RunId, SnapshotId},
    problem::{Problem, ProblemCode},
};
use bytes::Bytes;
use rand_core::CryptoRng;

/// The servers that a takeover fenced. As a [`BackupServer`] it is the one of them with the newest head, for as long as
/// nobody has taken any of them since.
pub struct Takeover<D: Door> {
    needed: usize,
    epoch: u64,
    /// The one at the newest head first.
    held: Vec<(Held<D::Session>, String)>,
    /// Those that could not be brought to the newest head, each with the reason.
    behind: Vec<(String, CopyError)>,
    /// Those that were not reached, each with the reason.
    silent: Vec<(String, RemoteError)>,
}

impl<D: Door> Takeover<D> {
    /// Fences every other writer off at `needed` servers at least and as many more as answer, at an epoch above `floor`, reads their
    /// heads again, and brings them to the newest: from then on any N servers show it to the writer that comes next.
    pub async fn begin(doors: &[D], who: Who, needed: usize, floor: u64) -> Result<Self, RemoteError> {
        let Claimed { epoch, held, left } = claim(doors, who, needed, floor).await?;
        let url = |at: usize| {
            doors
                .get(at)
                .map_or_else(String::new, |door| door.url().to_owned())
        };
        let mut held: Vec<_> = held
            .into_iter()
            .map(|held| {
                let url = url(held.at);
                (held, url)
            })
            .collect();
        let silent = left.into_iter().map(|(at, error)| (url(at), error)).collect();
        let accounts = held.iter().map(|(held, _)| &held.account).enumerate();
        if let Some((best, _)) = newest(accounts) {
            held.swap(0, best);
        }
        let mut behind = Vec::new();
        if let Some(((best, from), others)) = held.split_first() {
            for (other, to) in others {
                let goal = best.account.head;
                let brought = bring(&*other.session, &other.account, &*best.session, goal, (to, from)).await;
                if let Err(error) = brought {
                    behind.push((to.clone(), error));
                }
            }
        }
        Ok(Self {
            needed,
            epoch,
            held,
            behind,
            silent,
        })
    }

    /// Appends the node's own sealed records, which only an old disk held, behind the newest head, at every server that is there.
    /// Sent again they change nothing.
    pub async fn append(&mut self, records: &[Bytes]) -> Result<(), RemoteError> {
        let Some(goal) = self.held.first().map(|(held, _)| held.account.head) else {
            return Err(RemoteError::Key);
        };
        let (mut there, mut failed) = (0, None);
        for (held, url) in &mut self.held {
            if held.account.head != goal && self.behind.iter().any(|(behind, _)| behind == url) {
                continue;
            }
            let appended = async {
                for record in records {
                    held.session.append(record.clone()).await?;
                }
                held.session.account().await
            };
            match appended.await {
                Ok(account) => {
                    held.account = account;
                    there += 1;
                }
                Err(error) => {
                    self.behind.push((url.clone(), error.clone().into()));
                    failed = failed.or(Some(error));
                }
            }
        }
        // What is read from then on is read from one that has them.
        let accounts = self.held.iter().map(|(held, _)| &held.account).enumerate();
        if let Some((best, _)) = newest(accounts) {
            self.held.swap(0, best);
        }
        match failed {
            Some(error) if there < self.needed => Err(error),
            _ => Ok(()),
        }
    }

    /// The epoch at which every other writer was fenced off.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Those that could not be brought to the newest head, each with the reason.
    pub fn behind(&self) -> &[(String, CopyError)] {
        &self.behind
    }

    /// Those that were not reached, each with the reason.
    pub fn silent(&self) -> &[(String, RemoteError)] {
        &self.silent
    }

    /// The heads that were found, each with the server's URL, the newest first.
    pub fn heads(&self) -> impl Iterator<Item = (&str, Head)> {
        self.held
            .iter()
            .map(|(held, url)| (url.as_str(), held.account.head))
    }

    /// The session with the server at the newest head.
    pub fn session(&self) -> Result<&D::Session, RemoteError> {
        self.held
            .first()
            .map(|(held, _)| &*held.session)
            .ok_or(RemoteError::Key)
    }

    /// The sessions with all servers that are at the newest head now.
    pub fn level(&self) -> impl Iterator<Item = &D::Session> {
        let is_level = |url: &String| !self.behind.iter().any(|(behind, _)| behind == url);
        let level = self.held.iter().filter(move |(_, url)| is_level(url));
        level.map(|(held, _)| &*held.session)
    }

    /// Says behind the newest head which machine took the node over, with the servers and the rule as they are: sealed, for whoever was the
    /// writer until now. What goes wrong with it takes nothing from the takeover. Where the node may have spooled, nothing is said: an old
    /// disk's spool fits behind the head alone, and may turn up later (SPEC 8.10). The run must be one of those that the directory knows.
    pub async fn sign(&self, keys: &Keys, policy: &Policy, run: RunId, by: String, rng: &mut dyn CryptoRng) {
        if policy.spool_seconds > 0 {
            return;
        }
        let Ok(account) = self.account() else { return };
        let Some(timeline) = account.timeline else { return };
        let place = Place {
            timeline,
            epoch: self.epoch,
            seq: account.head.seq + 1,
            prev: account.head.hash,
        };
        let content = Content::Policy(Policy {
            run,
            opens_run: true,
            by,
            ..policy.clone()
        });
        let Ok(sealed) = Sealer::new(&keys.record).seal(place, &content, rng) else {
            return;
        };
        for session in self.level() {
            // Where it is not told, the old machine still hears that it was taken over, and when.
            let _ = session.append(sealed.bytes.clone()).await;
        }
    }

    /// The account there, as it stood behind the fence.
    pub fn account(&self) -> Result<&AccountState, RemoteError> {
        self.held
            .first()
            .map(|(held, _)| &held.account)
            .ok_or(RemoteError::Key)
    }

    /// An error where the takeover does not hold any more.
    pub async fn confirm(&self) -> Result<(), RemoteError> {
        self.still().await.map(|_| ())
    }

    /// Whether the takeover still holds everywhere where it was heard of again, and at enough servers: the newest account.
    async fn still(&self) -> Result<AccountState, RemoteError> {
        let (mut first, mut confirmed, mut failed) = (None, 0, None);
        for (held, url) in &self.held {
            match held.session.account().await {
                Ok(account) if account.epoch == self.epoch => {
                    confirmed += 1;
                    first = first.or(Some(account));
                }
                Ok(account) => {
                    let mut problem = Problem::new(
                        ProblemCode::Fenced,
                        "another machine took the node over meanwhile",
                    );
                    problem.since = account.writer_since;
                    return Err(RemoteError::Refused {
                        url: url.clone(),
                        problem: Box::new(problem),
                    });
                }
                Err(error) => failed = failed.or(Some(error)),
            }
            // What is read is read from the first one.
            if first.is_none() {
                break;
            }
        }
        match first.filter(|_| confirmed >= self.needed) {
            Some(account) => Ok(account),
            None => Err(failed.unwrap_or(RemoteError::Key)),
        }
    }
}

impl<D: Door> ChunkServer for Takeover<D> {
    async fn locate(&self, ids: &[ChunkId]) -> Result<Vec<Option<ChunkPlace>>, RemoteError> {
        self.session()?.locate(ids).await
    }

    async fn put_pack(&self, pack: PackId, bytes: Bytes) -> Result<(), RemoteError> {
        self.session()?.put_pack(pack, bytes).await
    }

    async fn get_pack(&self, pack: PackId, range: Option<(u32, u32)>) -> Result<Bytes, RemoteError> {
        self.session()?.get_pack(pack, range).await
    }

    async fn commit_snapshot(&self, commit: &BodyFile) -> Result<SnapshotInfo, RemoteError> {
        self.session()?.commit_snapshot(commit).await
    }
}

impl<D: Door> BackupServer for Takeover<D> {
    async fn account(&self) -> Result<AccountState, RemoteError> {
        self.still().await
    }

    async fn records(&self, from: u64) -> Result<Vec<(UnixMillis, Bytes)>, RemoteError> {
        self.session()?.records(from).await
    }

    async fn snapshots(&self) -> Result<Vec<SnapshotInfo>, RemoteError> {
        self.session()?.snapshots().await
    }

    async fn manifest(&self, snapshot: SnapshotId) -> Result<Bytes, RemoteError> {
        self.session()?.manifest(snapshot).await
    }
}
