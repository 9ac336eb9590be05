use super::{
    chunk::{BadChunk, CHUNK_LEN, LIST_IDS},
    index::Index,
    testing::{FakeServer, TestRng},
    *,
};
use crate::{
    keys::{Keys, Root},
    random::SharedRng,
};
use backstop_protocol::{
    api::{PACK_TARGET, SEALED_CHUNK_MAX},
    chunk::{ChunkKind, ChunkPlace},
    id::{ChunkId, RecordHash, SnapshotId, TimelineId},
    pack::parse_pack,
};
use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

const SEED: u64 = 5;

struct Scene {
    dir: tempfile::TempDir,
    server: FakeServer,
    keys: Arc<Keys>,
    rng: SharedRng,
}

impl Scene {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            server: FakeServer::default(),
            keys: Arc::new(Keys::derive(&Root::from_bytes([1; 32]))),
            rng: SharedRng::new(TestRng::new(SEED)),
        }
    }

    /// A file of that many chunks, all different, and of some bytes more.
    fn file(&self, chunks: usize, more: usize) -> PathBuf {
        let mut bytes = vec![0; chunks * CHUNK_LEN + more];
        for (at, piece) in bytes.chunks_mut(CHUNK_LEN).enumerate() {
            let half = piece.len() / 2;
            rand_core::Rng::fill_bytes(&mut TestRng::new(at as u64), &mut piece[..half]);
        }
        let path = self.dir.path().join("db");
        fs::write(&path, bytes).unwrap();
        path
    }

    fn upload(
        &mut self,
        database: &Path,
        name: u8,
        parent: Option<&KnownChunks>,
    ) -> Result<Uploaded, UploadError> {
        let plan = Plan {
            database,
            notes: database,
            base: Base {
                timeline: TimelineId([1; 16]),
                seq: 7,
                hash: RecordHash([3; 32]),
            },
            snapshot: SnapshotId([name; 16]),
            data_version: 5,
            policy: None,
            parent,
            pace: Pace::Full,
        };
        wait(upload(&self.server, &self.keys, &plan, &self.rng, &mut |_, _| {}))
    }

    fn index(&self, path: &Path) -> Index {
        let file = fs::File::open(path).unwrap();
        Index::of(&file, path, &chunk::Chunker::new(&self.keys)).unwrap()
    }

    /// The data chunks of a file without equal pieces, in file order.
    fn ids(&self, path: &Path) -> Vec<ChunkId> {
        let mut pieces = self.index(path).pieces(None, 1 << 20).unwrap();
        pieces.retain(|piece| !piece.is_list);
        pieces.sort_unstable_by_key(|piece| piece.at);
        pieces.iter().map(|piece| piece.id).collect()
    }

    fn fetch(&self, name: u8) -> Result<Vec<u8>, FetchError> {
        let sealed = {
            let held = self.server.held();
            let wanted = held
                .snapshots
                .iter()
                .find(|(info, ..)| info.snapshot.0 == [name; 16]);
            wanted.unwrap().1.manifest.clone()
        };
        let manifest = Manifest::open(&self.keys.manifest, &sealed).unwrap();
        let to = self.dir.path().join("fetched");
        let fetched = wait(fetch(&self.server, &self.keys, &manifest, &to, &mut |_, _| {}));
        if fetched.is_err() {
            assert!(!to.exists(), "no half file");
        }
        fetched.map(|()| {
            let bytes = fs::read(&to).unwrap();
            fs::remove_file(&to).unwrap();
            bytes
        })
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

fn flip(path: &Path, at: u64) {
    let file = fs::OpenOptions::new().write(true).read(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    byte[0] ^= 1;
    file.write_all_at(&byte, at).unwrap();
}

#[test]
fn a_database_comes_back_byte_for_byte_whatever_its_length() {
    for (chunks, more) in [
        (0, 1),
        (1, 0),
        (0, 512),
        (3, 4096),
        (LIST_IDS, 0),
        (LIST_IDS + 1, 4096),
    ] {
        let mut scene = Scene::new();
        let path = scene.file(chunks, more);
        scene.upload(&path, 1, None).unwrap();
        assert_eq!(scene.fetch(1).unwrap(), fs::read(path).unwrap());
    }
}

#[test]
fn an_empty_file_makes_no_snapshot() {
    let mut scene = Scene::new();
    let path = scene.file(0, 0);
    assert!(matches!(
        scene.upload(&path, 1, None),
        Err(UploadError::Manifest(_))
    ));
}

#[test]
fn equal_pieces_are_sent_once_and_written_everywhere() {
    let mut scene = Scene::new();
    let path = scene.dir.path().join("db");
    let mut bytes = vec![0; 40 * CHUNK_LEN];
    bytes[20 * CHUNK_LEN] = 1;
    fs::write(&path, &bytes).unwrap();
    let uploaded = scene.upload(&path, 1, None).unwrap();
    assert_eq!(uploaded.sent, 3, "zeros, the one piece, a list");
    assert_eq!(scene.fetch(1).unwrap(), bytes);
}

#[test]
fn packs_reach_their_target_and_hold_pieces_in_the_order_of_ids_which_is_not_the_files() {
    let mut scene = Scene::new();
    let path = scene.file(1100, 0);
    scene.upload(&path, 1, None).unwrap();
    let ids = scene.ids(&path);
    let held = scene.server.held();
    let small = held
        .packs
        .values()
        .filter(|pack| pack.len() < PACK_TARGET)
        .count();
    assert!(held.packs.len() > 1 && small == 1);
    for pack in held.packs.values() {
        assert!(pack.len() <= PACK_TARGET + SEALED_CHUNK_MAX + 36);
        let entries = parse_pack(pack).unwrap();
        assert!(entries.is_sorted_by_key(|entry| entry.id));
        let places: Vec<_> = entries
            .iter()
            .filter_map(|entry| ids.iter().position(|id| *id == entry.id))
            .collect();
        let ascending = places.windows(2).filter(|pair| pair[0] < pair[1]).count();
        assert!(
            (places.len() / 4..places.len() * 3 / 4).contains(&ascending),
            "{ascending} of {}",
            places.len()
        );
    }
}

#[test]
fn whole_packs_are_asked_for_once_when_all_of_them_is_needed() {
    let mut scene = Scene::new();
    let path = scene.file(1100, 0);
    scene.upload(&path, 1, None).unwrap();
    let packs = scene.server.held().packs.len();
    scene.server.held().requests = 0;
    scene.fetch(1).unwrap();
    let held = scene.server.held();
    // Two questions where things lie, lists (at most one request for each of three), data.
    assert!(
        held.requests <= 2 + 3 + packs,
        "{} for {packs} packs",
        held.requests
    );
    assert!(held.longest <= PACK_TARGET + SEALED_CHUNK_MAX);
}

#[test]
fn a_second_snapshot_sends_what_changed_and_its_list_as_a_difference() {
    let mut scene = Scene::new();
    let path = scene.file(1100, 0);
    let first = scene.upload(&path, 1, None).unwrap();
    assert_eq!(first.chunks, first.sent);
    flip(&path, 700 * CHUNK_LEN as u64 + 9);
    let known = scene.dir.path().join("known");
    let parent = KnownChunks::write(&known, SnapshotId([1; 16]), &first.index).unwrap();
    let second = scene.upload(&path, 2, Some(&parent)).unwrap();
    assert_eq!(second.sent, 2, "the piece and its list");
    {
        let held = scene.server.held();
        let (_, commit, chunks) = &held.snapshots[1];
        assert_eq!((commit.added.len(), commit.removed.len()), (2, 2));
        let sent = second.index.pieces(None, 1 << 20).unwrap();
        assert!(chunks.iter().eq(sent.iter().map(|piece| &piece.id)));
    }
    assert_eq!(scene.fetch(2).unwrap(), fs::read(&path).unwrap());
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(5 * CHUNK_LEN as u64)
        .unwrap();
    let parent = KnownChunks::write(&known, SnapshotId([2; 16]), &second.index).unwrap();
    let third = scene.upload(&path, 3, Some(&parent)).unwrap();
    assert_eq!(third.sent, 1, "a shorter list");
    assert_eq!(scene.fetch(3).unwrap().len(), 5 * CHUNK_LEN);
}

#[test]
fn an_upload_that_was_cut_goes_on_where_it_stopped() {
    let mut scene = Scene::new();
    let path = scene.file(1100, 0);
    let whole = scene.upload(&path, 1, None).unwrap();
    let lost = *scene.server.held().packs.keys().next().unwrap();
    scene.server.held().forget_pack(lost);
    let again = scene.upload(&path, 2, None).unwrap();
    assert!(again.sent > 0 && again.sent < whole.sent / 2 + 500);
    assert_eq!(scene.fetch(2).unwrap(), fs::read(&path).unwrap());
}

/// A server that loses a pack just before each of the first commits.
struct Forgetful {
    server: FakeServer,
    times: std::sync::atomic::AtomicU32,
}

impl Forgetful {
    fn new(times: u32) -> Self {
        Self {
            server: FakeServer::default(),
            times: times.into(),
        }
    }
}

impl ChunkServer for Forgetful {
    async fn locate(&self, ids: &[ChunkId]) -> Result<Vec<Option<ChunkPlace>>, crate::remote::RemoteError> {
        self.server.locate(ids).await
    }

    async fn put_pack(
        &self,
        pack: backstop_protocol::id::PackId,
        bytes: bytes::Bytes,
    ) -> Result<(), crate::remote::RemoteError> {
        self.server.put_pack(pack, bytes).await
    }

    async fn get_pack(
        &self,
        pack: backstop_protocol::id::PackId,
        range: Option<(u32, u32)>,
    ) -> Result<bytes::Bytes, crate::remote::RemoteError> {
        self.server.get_pack(pack, range).await
    }

    async fn commit_snapshot(
        &self,
        commit: &crate::remote::BodyFile,
    ) -> Result<backstop_protocol::api::SnapshotInfo, crate::remote::RemoteError> {
        use std::sync::atomic::Ordering::Relaxed;
        let forgets = self
            .times
            .try_update(Relaxed, Relaxed, |times| times.checked_sub(1));
        if forgets.is_ok() {
            let lost = *self.server.held().packs.keys().next().unwrap();
            self.server.held().forget_pack(lost);
        }
        self.server.commit_snapshot(commit).await
    }
}

#[test]
fn what_the_commit_names_as_missing_is_sent_once_more_and_then_it_is_an_error() {
    let scene = Scene::new();
    let path = scene.file(20, 0);
    let plan = |name| Plan {
        database: &path,
        notes: &path,
        base: Base {
            timeline: TimelineId([1; 16]),
            seq: 7,
            hash: RecordHash([3; 32]),
        },
        snapshot: SnapshotId([name; 16]),
        data_version: 5,
        policy: None,
        parent: None,
        pace: Pace::Background,
    };
    for (times, succeeds) in [(0, true), (1, true), (2, false)] {
        let server = Forgetful::new(times);
        let uploaded = wait(upload(&server, &scene.keys, &plan(1), &scene.rng, &mut |_, _| {}));
        match uploaded {
            Ok(uploaded) => assert!(succeeds && uploaded.sent >= uploaded.chunks),
            Err(error) => assert!(!succeeds && matches!(error, UploadError::Remote(_)), "{error:?}"),
        }
    }
}

#[test]
fn what_does_not_come_back_as_it_was_sent_is_never_committed() {
    let mut scene = Scene::new();
    let path = scene.file(1100, 0);
    scene.upload(&path, 1, None).unwrap();
    // Every chunk that the server holds already is damaged there; a sample suffices to notice.
    for pack in scene.server.held().packs.values_mut() {
        for byte in pack.iter_mut().skip(42).step_by(200) {
            *byte ^= 1;
        }
    }
    let refused = scene.upload(&path, 2, None);
    assert!(matches!(refused, Err(UploadError::Unproved(_))), "{refused:?}");
    assert_eq!(scene.server.held().snapshots.len(), 1);
}

#[test]
fn a_database_that_changes_under_the_upload_is_an_error() {
    let scene = Scene::new();
    let path = scene.file(4, 0);
    let plan = Plan {
        database: &path,
        notes: &path,
        base: Base {
            timeline: TimelineId([1; 16]),
            seq: 7,
            hash: RecordHash([3; 32]),
        },
        snapshot: SnapshotId([1; 16]),
        data_version: 5,
        policy: None,
        parent: None,
        pace: Pace::Background,
    };
    // The first word of progress comes between the two readings.
    let mut change = |_, _| flip(&path, 100);
    let refused = wait(upload(&scene.server, &scene.keys, &plan, &scene.rng, &mut change));
    assert!(matches!(refused, Err(UploadError::Changed)), "{refused:?}");
}

#[test]
fn what_was_read_ahead_of_a_database_that_moves_is_not_sent_again_and_what_moved_is() {
    let mut scene = Scene::new();
    let path = scene.file(LIST_IDS + 5, 0);
    let notes = scene.dir.path().join("notes");
    // lightningd writes between the two readings, and goes on after them.
    let mut change = |done, _| {
        if done == 0 {
            flip(&path, 100);
        }
    };
    let sent = wait(read_ahead(
        &scene.server,
        &scene.keys,
        &path,
        &notes,
        &scene.rng,
        &mut change,
    ))
    .unwrap();
    assert!(sent > 0 && scene.server.held().snapshots.is_empty());
    flip(&path, 300 * CHUNK_LEN as u64);
    let uploaded = scene.upload(&path, 1, None).unwrap();
    assert_eq!(uploaded.sent, 3, "two pieces that changed, and their list");
    assert_eq!(scene.fetch(1).unwrap(), fs::read(&path).unwrap());
    assert!(!scene.dir.path().join("notes.scratch").exists());
}

#[test]
fn a_missing_a_damaged_and_a_misplaced_piece_are_named_and_leave_no_file() {
    let mut scene = Scene::new();
    let path = scene.file(LIST_IDS + 5, 0);
    scene.upload(&path, 1, None).unwrap();
    let ids = scene.ids(&path);
    let spot = |kind, at| Spot {
        snapshot: SnapshotId([1; 16]),
        kind,
        at,
    };
    for (kind, at, id) in [
        (ChunkKind::Data, 300, ids[300]),
        (ChunkKind::List, 1, scene.index(&path).lists[1]),
    ] {
        let place = scene.server.held().places[&id];
        scene.server.held().places.remove(&id);
        let error = scene.fetch(1).unwrap_err();
        assert!(
            matches!(error, FetchError::Missing(missing) if missing == spot(kind, at)),
            "{error:?}"
        );

        for wrong in [
            ChunkPlace { len: 20, ..place },
            ChunkPlace {
                offset: u32::MAX,
                ..place
            },
        ] {
            scene.server.held().places.insert(id, wrong);
            assert!(
                matches!(scene.fetch(1).unwrap_err(), FetchError::Place(named) if named == spot(kind, at))
            );
        }
        scene.server.held().places.insert(id, place);

        let byte = place.offset as usize + 50;
        scene.server.held().packs.get_mut(&place.pack).unwrap()[byte] ^= 1;
        let error = scene.fetch(1).unwrap_err();
        assert!(
            matches!(error, FetchError::Damaged { spot: named, reason: BadChunk::Seal } if named == spot(kind, at)),
            "{error:?}"
        );
        scene.server.held().packs.get_mut(&place.pack).unwrap()[byte] ^= 1;
    }
    assert_eq!(scene.fetch(1).unwrap(), fs::read(&path).unwrap());
}

#[test]
fn chunks_in_each_others_places_are_refused() {
    let mut scene = Scene::new();
    let path = scene.file(4, 0);
    scene.upload(&path, 1, None).unwrap();
    let ids = scene.ids(&path);
    {
        let mut held = scene.server.held();
        let (a, b) = (held.places[&ids[0]], held.places[&ids[1]]);
        held.places.insert(ids[0], b);
        held.places.insert(ids[1], a);
    }
    assert!(matches!(
        scene.fetch(1),
        Err(FetchError::Damaged {
            reason: BadChunk::Seal,
            ..
        })
    ));
}

#[test]
fn a_file_that_exists_is_never_written_over() {
    let mut scene = Scene::new();
    let path = scene.file(1, 0);
    scene.upload(&path, 1, None).unwrap();
    let sealed = scene.server.held().snapshots[0].1.manifest.clone();
    let manifest = Manifest::open(&scene.keys.manifest, &sealed).unwrap();
    let before = fs::read(&path).unwrap();
    let refused = wait(fetch(
        &scene.server,
        &scene.keys,
        &manifest,
        &path,
        &mut |_, _| {},
    ));
    assert!(
        matches!(refused, Err(FetchError::Io(error)) if error.kind() == std::io::ErrorKind::AlreadyExists)
    );
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_download_that_was_cut_goes_on_where_it_stopped_and_what_was_left_is_proved() {
    let mut scene = Scene::new();
    let path = scene.file(3400, 77);
    scene.upload(&path, 1, None).unwrap();
    let sealed = scene.server.held().snapshots[0].1.manifest.clone();
    let manifest = Manifest::open(&scene.keys.manifest, &sealed).unwrap();
    let to = scene.dir.path().join("fetched");
    let attempt = |answers| {
        let mut held = scene.server.held();
        (held.requests, held.fetched, held.answers) = (0, 0, answers);
        drop(held);
        let done = wait(go_on(&scene.server, &scene.keys, &manifest, &to, &mut |_, _| {}));
        let done = done.and_then(|flushing| Ok(flushing.end()?));
        let held = scene.server.held();
        (done, held.requests, held.fetched)
    };
    let (done, requests, whole) = attempt(None);
    done.unwrap();
    fs::remove_file(&to).unwrap();

    let (cut, ..) = attempt(Some(requests - 1));
    assert!(matches!(cut, Err(FetchError::Remote(_))), "{cut:?}");
    // What lies on the disk meanwhile may be anything: shorter, longer, or wrong.
    let left = fs::OpenOptions::new().read(true).write(true).open(&to).unwrap();
    let original = fs::read(&path).unwrap();
    let mut piece = vec![0; CHUNK_LEN];
    let right = (0..3400).find(|at| {
        left.read_exact_at(&mut piece, at * CHUNK_LEN as u64).unwrap();
        original[usize::try_from(*at).unwrap() * CHUNK_LEN..].starts_with(&piece)
    });
    let damaged = right.expect("something came") * CHUNK_LEN as u64 + 3;
    flip(&to, damaged);
    left.set_len(original.len() as u64 + 1).unwrap();

    let (done, _, rest) = attempt(None);
    done.unwrap();
    assert!(fs::read(&to).unwrap() == original);
    assert!(rest + PACK_TARGET / 4 < whole, "{rest} of {whole} again");
}

/// A server that gathers its packs into others while somebody fetches.
struct Gathering {
    server: FakeServer,
    times: std::sync::atomic::AtomicU32,
}

impl ChunkServer for Gathering {
    async fn locate(&self, ids: &[ChunkId]) -> Result<Vec<Option<ChunkPlace>>, crate::remote::RemoteError> {
        self.server.locate(ids).await
    }

    async fn put_pack(
        &self,
        pack: backstop_protocol::id::PackId,
        bytes: bytes::Bytes,
    ) -> Result<(), crate::remote::RemoteError> {
        self.server.put_pack(pack, bytes).await
    }

    async fn get_pack(
        &self,
        pack: backstop_protocol::id::PackId,
        range: Option<(u32, u32)>,
    ) -> Result<bytes::Bytes, crate::remote::RemoteError> {
        use std::sync::atomic::Ordering::Relaxed;
        let gathers = self
            .times
            .try_update(Relaxed, Relaxed, |times| times.checked_sub(1));
        if gathers.is_ok() {
            let renamed = |mut pack: backstop_protocol::id::PackId| {
                pack.0[0] ^= 1;
                pack
            };
            let mut held = self.server.held();
            let packs = std::mem::take(&mut held.packs);
            held.packs = packs
                .into_iter()
                .map(|(pack, bytes)| (renamed(pack), bytes))
                .collect();
            for place in held.places.values_mut() {
                place.pack = renamed(place.pack);
            }
        }
        self.server.get_pack(pack, range).await
    }

    async fn commit_snapshot(
        &self,
        commit: &crate::remote::BodyFile,
    ) -> Result<backstop_protocol::api::SnapshotInfo, crate::remote::RemoteError> {
        self.server.commit_snapshot(commit).await
    }
}

#[test]
fn chunks_that_move_while_they_are_fetched_are_located_again_and_lost_ones_are_an_error() {
    let mut scene = Scene::new();
    let path = scene.file(1100, 0);
    scene.upload(&path, 1, None).unwrap();
    let sealed = scene.server.held().snapshots[0].1.manifest.clone();
    let manifest = Manifest::open(&scene.keys.manifest, &sealed).unwrap();
    let to = scene.dir.path().join("fetched");
    let gathering = Gathering {
        server: std::mem::take(&mut scene.server),
        times: 1.into(),
    };
    wait(fetch(&gathering, &scene.keys, &manifest, &to, &mut |_, _| {})).unwrap();
    assert_eq!(fs::read(&to).unwrap(), fs::read(&path).unwrap());
    fs::remove_file(&to).unwrap();
    gathering.server.held().packs.clear();
    let lost = wait(fetch(&gathering, &scene.keys, &manifest, &to, &mut |_, _| {}));
    assert!(matches!(lost, Err(FetchError::Remote(_))), "{lost:?}");
    assert!(!to.exists());
}

#[test]
fn the_chunks_of_a_snapshot_are_read_as_they_were_written() {
    let mut scene = Scene::new();
    let path = scene.file(LIST_IDS + 5, 0);
    let uploaded = scene.upload(&path, 1, None).unwrap();
    let file = scene.dir.path().join("known");
    assert_eq!(KnownChunks::open(&file), None);
    let written = KnownChunks::write(&file, SnapshotId([1; 16]), &uploaded.index).unwrap();
    let read = KnownChunks::open(&file).unwrap();
    assert_eq!((&read, read.snapshot), (&written, SnapshotId([1; 16])));
    let ids: Vec<_> = read.ids().unwrap().map(Result::unwrap).collect();
    let pieces = uploaded.index.pieces(None, 1 << 20).unwrap();
    assert!(ids.iter().eq(pieces.iter().map(|piece| &piece.id)));

    let bytes = fs::read(&file).unwrap();
    let (header, ids) = bytes.split_at(21);
    let swapped = [header, &ids[32..64], &ids[..32], &ids[64..]].concat();
    let twice = [header, &ids[..32], &ids[..32]].concat();
    for wrong in [
        &swapped,
        &twice,
        &bytes[1..].to_vec(),
        &bytes[..bytes.len() - 1].to_vec(),
        &header[..20].to_vec(),
    ] {
        fs::write(&file, wrong).unwrap();
        assert_eq!(KnownChunks::open(&file), None);
    }
}

#[test]
fn what_is_noted_beside_a_database_is_gone_with_the_upload_and_with_the_fetch() {
    let mut scene = Scene::new();
    let path = scene.file(40, 0);
    // What a killed upload left.
    fs::write(scene.dir.path().join("db.scratch"), "half").unwrap();
    fs::write(scene.dir.path().join("db.commit"), "half").unwrap();
    drop(scene.upload(&path, 1, None).unwrap());
    scene.fetch(1).unwrap();
    let left: Vec<_> = fs::read_dir(scene.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["db"]);
}
