//! From a server into a mirror: what it lacks, then each record as it comes.
//!
//! Every record must name the hash of the one before (I3); every pack has its hash, every chunk of a snapshot is held
//! before the snapshot is. Where the server's chain went on otherwise than the mirror's, what it left is set aside; a
//! server that holds less changes nothing here (I6).

use super::{Index, Mirror, MirrorError, State, index::Link};
use crate::{
    remote::Session,
    restore::{BadChain, Chain},
    snapshot::Base,
};
use backstop_protocol::{
    api::{AccountState, CHUNKS_PAGE, LOCATE_MAX, SnapshotInfo},
    clock::{Clock, UnixMillis},
    files::FilesHeader,
    head::Head,
    id::{ChunkId, PackId, RecordHash, TimelineId},
    pack::parse_pack,
    problem::ProblemCode,
    record::{RecordKind, record_hash},
    snapshot::ManifestHeader,
};
use bytes::Bytes;
use std::{cmp::Ordering, collections::BTreeSet, sync::MutexGuard};

/// How often chunks are located anew, where the server gathers them into other packs meanwhile.
const LOCATE_TRIES: usize = 5;

/// One server, as a mirror follows it.
pub struct Pull<'a> {
    mirror: &'a Mirror,
    session: &'a Session,
    clock: &'a dyn Clock,
}

impl<'a> Pull<'a> {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(mirror: &'a Mirror, session: &'a Session, clock: &'a dyn Clock) -> Self {
        Self {
            mirror,
            session,
            clock,
        }
    }

    /// Brings the mirror to where the server stands: the log, the newest snapshot, the files beside the database.
    pub async fn catch_up(&self) -> Result<State, MirrorError> {
        let account = self.session.account().await?;
        let config = self.mirror.config();
        if (account.node, account.network) != (config.node, config.network) {
            return Err(MirrorError::Wrong("this node's account".to_owned()));
        }
        self.log(&account).await?;
        if let Some(info) = &account.snapshot {
            self.snapshot(info).await?;
        }
        self.files(&account).await?;
        self.index().heard(self.clock.now())?;
        self.index().state()
    }

    /// Waits for the next record and takes what came; whether there is more to be done than that, which
    /// [`Pull::catch_up`] does.
    pub async fn next(&self) -> Result<bool, MirrorError> {
        let state = self.index().state()?;
        let page = self
            .session
            .next_records(state.head.seq.saturating_add(1))
            .await?;
        if page.is_empty() {
            return Ok(true);
        }
        let Some(timeline) = state.timeline else {
            return Ok(true);
        };
        match self.take(timeline, &state, &page) {
            // The head was replaced, or the history: that is found out by asking.
            Err(MirrorError::Chain(_)) => Ok(true),
            Err(error) => Err(error),
            Ok(()) => self.lacks_snapshot(),
        }
    }

    /// Whether the log went over a gap that no snapshot here bridges yet.
    fn lacks_snapshot(&self) -> Result<bool, MirrorError> {
        let index = self.index();
        let gap = index.last_gap(RecordKind::Gap as u8)?;
        let Some(timeline) = index.state()?.timeline else {
            return Ok(false);
        };
        let newest = index.snapshots(timeline)?;
        Ok(newest.first().map_or(0, |info| info.base_seq) < gap)
    }

    async fn log(&self, account: &AccountState) -> Result<(), MirrorError> {
        let state = self.index().state()?;
        let (Some(timeline), mine) = (account.timeline, state.timeline) else {
            return match state.timeline {
                Some(_) => Err(behind(account, &state)),
                None => Ok(()),
            };
        };
        if mine.is_some_and(|mine| mine != timeline) {
            return if account.head.epoch > state.head.epoch {
                self.begin(timeline, account).await
            } else {
                Err(MirrorError::OtherHistory(timeline))
            };
        }
        match account.head.cmp_place(&state.head) {
            _ if mine.is_none() => self.begin(timeline, account).await,
            Ordering::Less => Err(behind(account, &state)),
            Ordering::Equal if account.head.hash != state.head.hash => {
                Err(MirrorError::OtherHistory(timeline))
            }
            Ordering::Equal => Ok(()),
            // The server has dropped what would lead from here on.
            Ordering::Greater if account.first_seq > state.head.seq.saturating_add(1) => {
                self.begin(timeline, account).await
            }
            Ordering::Greater => match self.follow(timeline, &account.head).await {
                Err(MirrorError::Chain(_)) => self.other_way(timeline, account, &state).await,
                other => other,
            },
        }
    }

    /// Takes records until the log has reached `until`.
    async fn follow(&self, timeline: TimelineId, until: &Head) -> Result<(), MirrorError> {
        loop {
            let state = self.index().state()?;
            if state.head.seq >= until.seq {
                // A record at this very place may be another one than the mirror's.
                let same = state.head.seq > until.seq || state.head.hash == until.hash;
                return if same && state.head.cmp_place(until) != Ordering::Less {
                    Ok(())
                } else {
                    Err(BadChain::Prev { seq: until.seq }.into())
                };
            }
            let page = self.session.records(state.head.seq.saturating_add(1)).await?;
            if page.is_empty() {
                return Err(BadChain::Short {
                    reached: state.head.seq,
                    head: until.seq,
                }
                .into());
            }
            self.take(timeline, &state, &page)?;
        }
    }

    /// Appends one page, if it continues the chain.
    fn take(
        &self,
        timeline: TimelineId,
        state: &State,
        page: &[(UnixMillis, Bytes)],
    ) -> Result<(), MirrorError> {
        let start = state.head.seq.saturating_add(1);
        let base = Base {
            timeline,
            seq: state.head.seq,
            hash: state.head.hash,
        };
        let mut chain = Chain::enter(timeline, start, (state.head.seq > 0).then_some(base));
        let mut links = Vec::with_capacity(page.len());
        let mut epoch = state.head.epoch;
        for (received_at, sealed) in page {
            let header = chain.take(sealed)?;
            if header.epoch < epoch {
                return Err(BadChain::Epoch { seq: header.seq }.into());
            }
            epoch = header.epoch;
            links.push(Link {
                header,
                hash: record_hash(sealed),
                received_at: *received_at,
                sealed: sealed.clone(),
            });
        }
        self.index().append(&links, self.clock.now())
    }

    /// The server's chain is newer and does not go through the mirror's head: what both have in common stays, what is
    /// above it is set aside, and the server's chain is followed from there.
    async fn other_way(
        &self,
        timeline: TimelineId,
        account: &AccountState,
        state: &State,
    ) -> Result<(), MirrorError> {
        let lowest = state.first_seq.max(account.first_seq);
        let mut at = state.head.seq.min(account.head.seq);
        let mut step = 1;
        while at >= lowest && at > 0 {
            let page = self.session.records(at).await?;
            if let Some(common) = self.common(at, &page)? {
                self.index().cut_back(common, self.clock.now())?;
                return self.follow(timeline, &account.head).await;
            }
            if at == lowest {
                break;
            }
            at = at.saturating_sub(step).max(lowest);
            step *= 2;
        }
        self.begin(timeline, account).await
    }

    /// The last record of a page from `at` on that the mirror holds too, where the first is one.
    fn common(&self, at: u64, page: &[(UnixMillis, Bytes)]) -> Result<Option<u64>, MirrorError> {
        let index = self.index();
        let mut common = None;
        for (seq, (_, sealed)) in (at..).zip(page) {
            if index.hash_at(seq)? != Some(record_hash(sealed)) {
                break;
            }
            common = Some(seq);
        }
        Ok(common)
    }

    /// Follows the server's log anew: from its first record, or from the newest snapshot, which is had first. Until that is
    /// complete, what the mirror holds stays what a restore would take.
    async fn begin(&self, timeline: TimelineId, account: &AccountState) -> Result<(), MirrorError> {
        let (first, prev) = match &account.snapshot {
            Some(info) => {
                self.snapshot(info).await?;
                let page = self.session.records(info.base_seq).await?;
                let mut chain = Chain::enter(timeline, info.base_seq, None);
                match page.first() {
                    Some((_, sealed)) if record_hash(sealed) == info.base_hash => {
                        (info.base_seq, chain.take(sealed)?.prev)
                    }
                    _ => return Err(BadChain::Base { seq: info.base_seq }.into()),
                }
            }
            None if account.first_seq <= 1 => (1, RecordHash::NONE),
            None => {
                return Err(MirrorError::Wrong(
                    "a log that leads on from a snapshot or from its first record".to_owned(),
                ));
            }
        };
        self.index().begin(timeline, first, prev, self.clock.now())?;
        self.follow(timeline, &account.head).await
    }

    /// Has a snapshot with all its chunks, unless it is held already.
    async fn snapshot(&self, info: &SnapshotInfo) -> Result<(), MirrorError> {
        if self.index().has_snapshot(info.snapshot)? {
            return Ok(());
        }
        let manifest = self.session.manifest(info.snapshot).await?;
        let header = ManifestHeader::parse(&manifest)?;
        if (header.snapshot, header.base_seq, header.base_hash)
            != (info.snapshot, info.base_seq, info.base_hash)
        {
            return Err(MirrorError::Wrong(format!(
                "the manifest of snapshot {}",
                info.snapshot
            )));
        }
        let mut ids = Vec::new();
        loop {
            let page = self
                .session
                .snapshot_chunks(info.snapshot, ids.last().copied())
                .await?;
            ids.extend_from_slice(&page);
            if page.len() < CHUNKS_PAGE {
                break;
            }
        }
        for _ in 0..LOCATE_TRIES {
            let missing = self.index().missing(&ids)?;
            if missing.is_empty() {
                let now = self.clock.now();
                return self
                    .index()
                    .add_snapshot(info, header.timeline, &manifest, &ids, now);
            }
            self.chunks(&missing).await?;
        }
        Err(MirrorError::Chunks)
    }

    /// Has the packs in which these chunks lie.
    async fn chunks(&self, ids: &[ChunkId]) -> Result<(), MirrorError> {
        let mut packs = BTreeSet::new();
        for page in ids.chunks(LOCATE_MAX) {
            let places = self.session.locate(page).await?;
            packs.extend(places.into_iter().flatten().map(|place| place.pack));
        }
        for pack in packs {
            match self.session.get_pack(pack, None).await {
                Ok(bytes) => self.store(pack, &bytes)?,
                // The server gathered its chunks into another pack: they are located anew.
                Err(error) if error.code() == Some(ProblemCode::NotFound) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The file first: what the index names must be there.
    fn store(&self, pack: PackId, bytes: &[u8]) -> Result<(), MirrorError> {
        let mut chunks = Vec::new();
        for entry in parse_pack(bytes)? {
            let len = u32::try_from(entry.sealed.len()).unwrap_or(u32::MAX);
            chunks.push((entry.id, entry.offset, len));
        }
        self.mirror.packs.put(pack, bytes)?;
        self.index().add_pack(pack, &chunks)
    }

    async fn files(&self, account: &AccountState) -> Result<(), MirrorError> {
        let Some(newest) = account.files else {
            return Ok(());
        };
        let held = self.index().files()?;
        if held.as_ref().is_some_and(|(at, _)| *at >= newest.received_at) {
            return Ok(());
        }
        let sealed = self.session.files(None).await?;
        FilesHeader::parse(&sealed)?;
        self.index()
            .add_files(newest.received_at, &sealed, self.clock.now())
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.mirror.index()
    }
}

fn behind(account: &AccountState, state: &State) -> MirrorError {
    MirrorError::Behind {
        server: account.head,
        mirror: state.head,
    }
}
