//! A store, its packs, a clock, and one node that uploads; and what must be true of them at any moment.

use super::*;
use crate::{
    metrics::TenantMetrics,
    packs::{PackRange, StoredPack},
    store::conformance::{Session, claim},
    webhooks::Webhooks,
};
use async_trait::async_trait;
use backstop_protocol::{chunk::ChunkPlace, hash::sha256, id::RecordHash};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    path::{Path, PathBuf},
    pin::pin,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
};
use tempfile::TempDir;

pub(super) const POLICY: HistoryPolicy = HistoryPolicy {
    snapshots: 2,
    days: 2,
};

/// How the pack store behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    None,
    /// There is no room for another pack.
    Full,
}

struct FaultyPacks {
    packs: DirectoryPacks,
    fault: Arc<Mutex<Fault>>,
}

#[async_trait]
impl PackStore for FaultyPacks {
    async fn put(&self, account: AccountId, pack: PackId, bytes: Bytes) -> Result<(), PackError> {
        if *self.fault.lock().unwrap() == Fault::Full {
            return Err(PackError::Full);
        }
        self.packs.put(account, pack, bytes).await
    }
    async fn get(
        &self,
        account: AccountId,
        pack: PackId,
        range: Option<PackRange>,
    ) -> Result<Option<Bytes>, PackError> {
        self.packs.get(account, pack, range).await
    }
    async fn remove(&self, account: AccountId, pack: PackId) -> Result<(), PackError> {
        self.packs.remove(account, pack).await
    }
    async fn accounts(&self) -> Result<Vec<AccountId>, PackError> {
        self.packs.accounts().await
    }
    async fn list(&self, account: AccountId) -> Result<Vec<StoredPack>, PackError> {
        self.packs.list(account).await
    }
    async fn probe(&self) -> Result<(), PackError> {
        self.packs.probe().await
    }
}

struct HandClock(AtomicU64);

impl Clock for HandClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::SeqCst))
    }
}

/// A snapshot as the node remembers it.
#[derive(Clone, Debug)]
struct Known {
    chunks: BTreeSet<u8>,
    base_seq: u64,
    committed_at: UnixMillis,
    on_chain: bool,
}

pub(super) struct World {
    dir: TempDir,
    store: Option<Arc<SqliteStore>>,
    keeper: Option<Housekeeper>,
    clock: Arc<HandClock>,
    fault: Arc<Mutex<Fault>>,
    session: Session,
    before_head: RecordHash,
    known: BTreeMap<u8, Known>,
    /// Places that the node was told of chunks of snapshots that are kept, and when.
    told: Vec<(UnixMillis, u8, ChunkPlace)>,
    /// Chunks that the node uploaded, and when.
    uploaded: Vec<(UnixMillis, u8)>,
}

/// A chunk's bytes follow from its name.
fn sealed(chunk: u8) -> Vec<u8> {
    vec![chunk; 300 + 50 * usize::from(chunk)]
}

fn open_packs(dir: &Path) -> DirectoryPacks {
    DirectoryPacks::open(&dir.join("packs")).unwrap()
}

async fn open_store(dir: &Path) -> Arc<SqliteStore> {
    let file = dir.join("store");
    let opened = SqliteStore::open(&file, None, Terms::default(), &mut UnwrapErr(SysRng)).await;
    Arc::new(opened.unwrap())
}

fn alarms() -> Alarms {
    let metrics = TenantMetrics::default();
    let nobody = Webhooks::to_nobody(metrics.clone());
    Alarms::new(nobody, metrics)
}

impl World {
    pub(super) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open_store(dir.path()).await;
        let session = Session::first(&*store, 1).await;
        let mut world = Self {
            dir,
            store: Some(store),
            keeper: None,
            clock: Arc::new(HandClock(AtomicU64::new(100 * DAY))),
            fault: Arc::new(Mutex::new(Fault::None)),
            session,
            before_head: RecordHash::NONE,
            known: BTreeMap::new(),
            told: Vec::new(),
            uploaded: Vec::new(),
        };
        world.hire();
        world
    }

    fn store(&self) -> Arc<SqliteStore> {
        self.store.clone().unwrap()
    }

    fn now(&self) -> UnixMillis {
        self.clock.now()
    }

    pub(super) fn account(&self) -> AccountId {
        self.session.account
    }

    pub(super) fn housekeeper(&mut self) -> &mut Housekeeper {
        self.keeper.as_mut().unwrap()
    }

    fn hire(&mut self) {
        let packs = FaultyPacks {
            packs: open_packs(self.dir.path()),
            fault: self.fault.clone(),
        };
        let (_, wake) = Housekeeping::new();
        self.keeper = Some(Housekeeper::new(
            self.store(),
            Arc::new(packs),
            self.clock.clone(),
            POLICY,
            Duration::ZERO,
            wake,
            alarms(),
        ));
    }

    pub(super) async fn reopen(&mut self) {
        self.keeper = None;
        if let Some(store) = self.store.take() {
            store.close().await;
        }
        self.store = Some(open_store(self.dir.path()).await);
        self.hire();
    }

    pub(super) fn advance(&self, millis: u64) {
        self.clock.0.fetch_add(millis, Ordering::SeqCst);
    }

    pub(super) fn fault(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    pub(super) async fn tidy(&mut self) -> Result<(), HousekeepingError> {
        let account = self.account();
        self.housekeeper().tidy(account, &|| false).await
    }

    /// Begins to tidy, dies after so many steps, and starts again over what is there.
    pub(super) async fn tidy_and_die(&mut self, steps: usize) {
        let account = self.account();
        {
            let mut work = pin!(self.keeper.as_mut().unwrap().tidy(account, &|| false));
            let mut left = steps;
            poll_fn(|context| {
                if left == 0 {
                    return Poll::Ready(());
                }
                left -= 1;
                work.as_mut().poll(context).map(drop)
            })
            .await;
        }
        self.reopen().await;
    }

    /// Until there is nothing more to do.
    pub(super) async fn settle(&mut self) {
        for _ in 0..8 {
            self.advance(2 * DAY);
            self.tidy().await.unwrap();
        }
    }

    /// Uploads a pack as the HTTP call does.
    pub(super) async fn put(&mut self, chunks: &[u8]) -> Result<PackId, StoreError> {
        let (arrival, bytes, entries) = self.pack(chunks);
        let (account, pack, now) = (arrival.account, arrival.pack, arrival.now);
        self.store().register_pack(arrival).await?;
        open_packs(self.dir.path())
            .put(account, pack, bytes)
            .await
            .unwrap();
        let index = PackIndex {
            account,
            pack,
            chunks: entries,
            now,
        };
        self.store().index_pack(index).await?;
        self.uploaded.extend(chunks.iter().map(|chunk| (now, *chunk)));
        Ok(pack)
    }

    /// An upload whose server dies before the end.
    pub(super) async fn put_and_die(&mut self, chunks: &[u8], stored: bool) {
        let (arrival, bytes, _) = self.pack(chunks);
        if self.store().register_pack(arrival).await.is_ok() && stored {
            let packs = open_packs(self.dir.path());
            packs.put(arrival.account, arrival.pack, bytes).await.unwrap();
        }
        self.reopen().await;
    }

    fn pack(&self, chunks: &[u8]) -> (PackArrival, Bytes, Vec<ChunkEntry>) {
        let mut builder = PackBuilder::default();
        for chunk in chunks {
            builder.push(ChunkId([*chunk; 32]), &sealed(*chunk));
        }
        let (pack, bytes) = builder.finish();
        let entry = |entry: &backstop_protocol::pack::PackEntry<'_>| ChunkEntry {
            id: entry.id,
            offset: entry.offset,
            len: u32::try_from(entry.sealed.len()).unwrap(),
        };
        let entries = parse_pack(&bytes).unwrap().iter().map(entry).collect();
        let arrival = PackArrival {
            judged: true,
            account: self.account(),
            pack,
            bytes: bytes.len() as u64,
            now: self.now(),
        };
        (arrival, bytes.into(), entries)
    }

    pub(super) async fn append(&mut self) {
        let mut next = self.session.next(7);
        next.now = self.now();
        self.before_head = self.session.head.hash;
        self.session.head = self.store().append(next).await.unwrap().head;
    }

    /// A new run replaces the head, and with it every snapshot that rests on it.
    pub(super) async fn replace_head(&mut self) {
        let (epoch, old) = (self.session.writer.epoch, self.session.head);
        if old.seq == 0 {
            return;
        }
        let run = u8::try_from(epoch + 1).unwrap();
        self.session = Session::open(&*self.store(), 1, claim(1, run, epoch, epoch + 1)).await;
        let mut replacing = self.session.record(old.seq, self.before_head, run, 400);
        replacing.now = self.now();
        self.session.head = self.store().append(replacing).await.unwrap().head;
        for known in self.known.values_mut() {
            known.on_chain &= known.base_seq < old.seq;
        }
    }

    /// A snapshot of the head; what the server lacks is uploaded as it asks for it.
    pub(super) async fn commit(&mut self, chunks: &[u8], as_difference: bool) {
        if self.session.head.seq == 0 {
            self.append().await;
        }
        let wanted: BTreeSet<u8> = chunks.iter().copied().collect();
        let listed = self.store().snapshots(self.account()).await.unwrap();
        let parent = listed
            .first()
            .map(|info| info.snapshot.0[0])
            .filter(|_| as_difference);
        let has = parent
            .map(|parent| self.known[&parent].chunks.clone())
            .unwrap_or_default();
        let added: Vec<u8> = wanted.difference(&has).copied().collect();
        let removed: Vec<u8> = has.difference(&wanted).copied().collect();
        let name = u8::try_from(self.known.len() + 1).unwrap();
        let mut commit = self.session.commit(name, parent, &added, &removed);
        commit.now = self.now();
        for _ in 0..50 {
            match self.store().commit_snapshot(commit.clone()).await {
                Ok(_) => {
                    let known = Known {
                        chunks: wanted,
                        base_seq: self.session.head.seq,
                        committed_at: self.now(),
                        on_chain: true,
                    };
                    self.known.insert(name, known);
                    return;
                }
                Err(StoreError::Refused(crate::store::Refusal::ChunksMissing(missing))) => {
                    let missing: Vec<u8> = missing.iter().map(|id| id.0[0]).collect();
                    assert!(self.locate(&missing).await.iter().all(Option::is_none));
                    // A pack of this very name may be going: that ends with the next look.
                    if self.put(&missing).await.is_err() {
                        self.tidy().await.unwrap();
                    }
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        panic!("never complete");
    }

    pub(super) async fn locate(&self, chunks: &[u8]) -> Vec<Option<ChunkPlace>> {
        let ids = chunks.iter().map(|id| ChunkId([*id; 32])).collect();
        self.store().locate(self.account(), ids).await.unwrap()
    }

    pub(super) async fn pack_of(&self, chunk: u8) -> (PackId, u32) {
        let place = self.locate(&[chunk]).await[0].unwrap();
        (place.pack, place.offset)
    }

    fn all_files(&self) -> Vec<PathBuf> {
        let root = self.dir.path().join("packs").join(self.account().to_string());
        let mut files = Vec::new();
        for folder in std::fs::read_dir(root).into_iter().flatten() {
            for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
                files.push(file.unwrap().path());
            }
        }
        files
    }

    /// The packs that lie on the disk.
    pub(super) fn files(&self) -> BTreeSet<PackId> {
        let name = |file: &PathBuf| file.file_name().unwrap().to_str().unwrap().parse().unwrap();
        self.all_files().iter().map(name).collect()
    }

    pub(super) fn damage(&self, pack: PackId) {
        let all = self.all_files();
        let file = all.iter().find(|file| file.ends_with(pack.to_string())).unwrap();
        let mut bytes = std::fs::read(file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::remove_file(file).unwrap();
        std::fs::write(file, bytes).unwrap();
    }

    async fn read(&self, place: &ChunkPlace) -> Option<Bytes> {
        let range = PackRange {
            offset: place.offset,
            length: place.len,
        };
        let packs = open_packs(self.dir.path());
        packs.get(self.account(), place.pack, Some(range)).await.unwrap()
    }

    /// What must be true at any moment: what must be kept is kept, and what is kept can be read.
    pub(super) async fn check(&mut self) {
        let listed = self.store().snapshots(self.account()).await.unwrap();
        let listed: BTreeSet<u8> = listed.iter().map(|info| info.snapshot.0[0]).collect();
        let mut newer: Option<UnixMillis> = None;
        // One that rests on the head may go with it, so that nothing is less needed for it.
        let firm = |known: &Known| known.on_chain && known.base_seq < self.session.head.seq;
        let mut on_chain: Vec<_> = self.known.iter().filter(|(_, known)| firm(known)).collect();
        on_chain.sort_by_key(|(name, known)| std::cmp::Reverse((known.base_seq, **name)));
        for (rank, (name, known)) in on_chain.into_iter().enumerate() {
            let young = newer.is_none_or(|newer| self.now().millis_since(newer) <= POLICY.keep_ms());
            if rank < POLICY.snapshots || young {
                assert!(listed.contains(name), "snapshot {name} must be there");
            }
            newer = Some(known.committed_at);
        }
        let state = self.store().account(self.account(), self.now()).await.unwrap();
        assert_eq!(state.head, self.session.head);
        let newest = self.known.iter().filter(|(_, known)| known.on_chain);
        let newest = newest.max_by_key(|(name, known)| (known.base_seq, **name));
        assert!(newest.is_none_or(|(name, _)| listed.contains(name)));
        for name in &listed {
            let known = self.known[name].clone();
            assert!(known.on_chain && known.base_seq >= state.first_seq);
            let chunks: Vec<u8> = known.chunks.into_iter().collect();
            for (chunk, place) in chunks.iter().zip(self.locate(&chunks).await) {
                let place = place.unwrap_or_else(|| panic!("chunk {chunk} of snapshot {name} is gone"));
                self.told.push((self.now(), *chunk, place));
            }
        }
        let now = self.now();
        self.told.retain(|(at, ..)| now.millis_since(*at) < DAY);
        self.uploaded.retain(|(at, _)| now.millis_since(*at) < DAY);
        let uploaded: Vec<u8> = self.uploaded.iter().map(|(_, chunk)| *chunk).collect();
        assert!(self.locate(&uploaded).await.iter().all(Option::is_some));
        for (_, chunk, place) in &self.told {
            let bytes = self.read(place).await;
            assert!(
                bytes.is_some_and(|bytes| bytes == sealed(*chunk)),
                "chunk {chunk} cannot be fetched"
            );
        }
    }

    /// What must be true once nothing happened for long: nothing unneeded is there.
    pub(super) async fn check_settled(&mut self, all: &[u8]) {
        let listed = self.store().snapshots(self.account()).await.unwrap();
        let names: Vec<u8> = listed.iter().map(|info| info.snapshot.0[0]).collect();
        assert!(names.len() <= POLICY.snapshots);
        let needed: BTreeSet<u8> = names
            .iter()
            .flat_map(|name| &self.known[name].chunks)
            .copied()
            .collect();
        let mut loads: BTreeMap<PackId, usize> = BTreeMap::new();
        for (chunk, place) in all.iter().zip(self.locate(all).await) {
            assert_eq!(place.is_some(), needed.contains(chunk), "chunk {chunk}");
            if let Some(place) = place {
                *loads.entry(place.pack).or_default() += sealed(*chunk).len() + 36;
            }
        }
        assert_eq!(self.files(), loads.keys().copied().collect());
        for file in self.all_files() {
            let bytes = std::fs::read(&file).unwrap();
            let live = loads[&PackId(sha256(&bytes))];
            assert!(
                2 * live + 6 >= bytes.len(),
                "{} of {} bytes are needed",
                live,
                bytes.len()
            );
        }
        assert!(loads.len() < 8);
        let state = self.store().account(self.account(), self.now()).await.unwrap();
        if let Some(oldest) = listed.last() {
            assert_eq!(state.first_seq, oldest.base_seq);
        }
        let records = self.store().records(self.account(), 0, usize::MAX).await.unwrap();
        let bytes: usize = records.iter().map(|record| record.sealed.len()).sum();
        assert_eq!(state.log_bytes, bytes as u64);
    }
}
