use super::{index::Link, *};
use backstop_protocol::{
    api::SnapshotInfo,
    clock::UnixMillis,
    head::Head,
    id::{ChunkId, PackId, RecordHash, SnapshotId, TimelineId},
    pack::PackBuilder,
    record::{RECORD_MIN, RecordHeader, RecordKind, record_hash},
};
use std::os::unix::fs::PermissionsExt as _;

const TIMELINE: TimelineId = TimelineId([7; 16]);
const DAY: u64 = 86_400_000;

fn at(day: u64) -> UnixMillis {
    UnixMillis(day * DAY)
}

fn index() -> (tempfile::TempDir, Index) {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::create(&dir.path().join(INDEX)).unwrap();
    (dir, index)
}

/// Records from one after `head` on, so many.
fn links(head: Head, epoch: u64, count: u64) -> Vec<Link> {
    let mut prev = head.hash;
    (1..=count)
        .map(|place| {
            let header = RecordHeader {
                kind: RecordKind::Batch,
                timeline: TIMELINE,
                epoch,
                seq: head.seq + place,
                prev,
                nonce: [1; 24],
            };
            let mut sealed = header.encode();
            sealed.resize(RECORD_MIN, 5);
            prev = record_hash(&sealed);
            Link {
                header,
                hash: prev,
                received_at: UnixMillis(place),
                sealed: sealed.into(),
            }
        })
        .collect()
}

/// A mirror's index that follows ten records of epoch 1.
fn ten() -> (tempfile::TempDir, Index) {
    let (dir, mut index) = index();
    index.begin(TIMELINE, 1, RecordHash::NONE, at(1)).unwrap();
    index.append(&links(Head::EMPTY, 1, 10), at(1)).unwrap();
    (dir, index)
}

fn aside(index: &Index) -> i64 {
    index
        .db
        .query_row("SELECT count(*) FROM aside", [], |row| row.get(0))
        .unwrap()
}

/// A pack of two chunks, and its place among the files.
fn pack(fill: u8) -> (PackId, Vec<u8>, [ChunkId; 2]) {
    let ids = [ChunkId([fill; 32]), ChunkId([fill + 1; 32])];
    let mut builder = PackBuilder::default();
    for id in ids {
        builder.push(id, &[fill; 300]);
    }
    let (id, bytes) = builder.finish();
    (id, bytes, ids)
}

fn info(index: &Index, snapshot: u8, base_seq: u64) -> SnapshotInfo {
    SnapshotInfo {
        snapshot: SnapshotId([snapshot; 16]),
        base_seq,
        base_hash: index.hash_at(base_seq).unwrap().unwrap(),
        committed_at: UnixMillis(1),
        bytes: 600,
    }
}

#[test]
fn what_was_appended_is_there_when_it_is_opened_again() {
    let (dir, index) = ten();
    let before = index.state().unwrap();
    assert_eq!(
        (before.first_seq, before.head.seq, before.heard_at),
        (1, 10, Some(at(1)))
    );
    drop(index);
    let again = Index::open(&dir.path().join(INDEX)).unwrap();
    assert_eq!(again.state().unwrap(), before);
    let page = again.records(4, 2 * RECORD_MIN).unwrap();
    let hashes: Vec<_> = page.iter().map(|(_, sealed)| Some(record_hash(sealed))).collect();
    assert_eq!(hashes, [again.hash_at(4).unwrap(), again.hash_at(5).unwrap()]);
    assert_eq!(again.records(4, 1).unwrap().len(), 1);
}

#[test]
fn a_branch_that_the_server_left_is_set_aside_whole() {
    let (_dir, mut index) = ten();
    index.cut_back(7, at(2)).unwrap();
    let state = index.state().unwrap();
    assert_eq!((state.head.epoch, state.head.seq), (1, 7));
    assert_eq!(Some(state.head.hash), index.hash_at(7).unwrap());
    assert_eq!((aside(&index), index.hash_at(8).unwrap()), (3, None));
    index.append(&links(state.head, 4, 2), at(2)).unwrap();
    assert_eq!(index.state().unwrap().head.epoch, 4);
    // Another history takes the place of all of it.
    index
        .begin(TimelineId([8; 16]), 1, RecordHash::NONE, at(3))
        .unwrap();
    assert_eq!(aside(&index), 3 + 9);
    assert_eq!(index.state().unwrap().head, Head::EMPTY);
}

#[test]
fn a_file_of_another_program_or_of_a_later_version_is_refused_and_left_alone() {
    let (dir, index) = ten();
    drop(index);
    let path = dir.path().join(INDEX);
    let later = rusqlite::Connection::open(&path).unwrap();
    later.pragma_update(None, "user_version", 2).unwrap();
    drop(later);
    assert!(matches!(Index::open(&path), Err(MirrorError::Bad { .. })));
    assert!(matches!(Index::create(&path), Err(MirrorError::Bad { .. })));
    let other = dir.path().join("other");
    std::fs::write(&other, "not a database, and longer than a header of one is").unwrap();
    assert!(matches!(Index::create(&other), Err(MirrorError::Index(_))));
}

#[test]
fn a_pack_under_another_name_is_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let packs = Packs::in_dir(dir.path());
    let (id, mut bytes, _) = pack(1);
    packs.put(id, &bytes).unwrap();
    assert_eq!(packs.get(id, None).unwrap(), bytes);
    assert_eq!(packs.get(id, Some((42, 5))).unwrap(), [1; 5].as_slice());
    assert!(packs.get(id, Some((42, 5000))).is_err());
    bytes[50] ^= 1;
    assert!(matches!(packs.put(id, &bytes), Err(MirrorError::Wrong(_))));
    packs.remove(id).unwrap();
    packs.remove(id).unwrap();
    assert!(packs.get(id, None).is_err());
}

#[test]
fn a_snapshot_counts_once_all_of_its_chunks_are_held() {
    let (_dir, mut index) = ten();
    let (id, _, ids) = pack(1);
    index.add_pack(id, &[(ids[0], 42, 300)]).unwrap();
    assert_eq!(index.missing(&ids).unwrap(), [ids[1]]);
    let info = info(&index, 1, 5);
    let refused = index.add_snapshot(&info, TIMELINE, &[9; 374], &ids, at(1));
    assert!(matches!(refused, Err(MirrorError::Chunks)));
    assert!(!index.has_snapshot(info.snapshot).unwrap());
    index.add_pack(id, &[(ids[1], 378, 300)]).unwrap();
    index
        .add_snapshot(&info, TIMELINE, &[9; 374], &ids, at(1))
        .unwrap();
    assert_eq!(index.snapshots(TIMELINE).unwrap(), [info]);
    assert_eq!(index.snapshots(TimelineId([8; 16])).unwrap(), []);
    assert_eq!(index.manifest(info.snapshot).unwrap(), Some(vec![9; 374]));
}

#[test]
fn what_was_superseded_goes_when_its_days_are_over_and_the_newest_never() {
    let (dir, index) = ten();
    drop(index);
    let config = tests_config(30);
    let mirror = Mirror::open_or_create(dir.path(), config).unwrap();
    for (fill, snapshot, base, day) in [(10, 1, 3, 1), (20, 2, 6, 2)] {
        let (id, bytes, ids) = pack(fill);
        mirror.packs.put(id, &bytes).unwrap();
        let mut index = mirror.index();
        index
            .add_pack(id, &[(ids[0], 42, 300), (ids[1], 378, 300)])
            .unwrap();
        let info = info(&index, snapshot, base);
        index
            .add_snapshot(&info, TIMELINE, &[9; 374], &ids, at(day))
            .unwrap();
    }
    let kept = |day| {
        mirror.sweep(at(day)).unwrap();
        let state = mirror.state().unwrap();
        let packs = [10, 20].map(|fill| mirror.packs.get(pack(fill).0, None).is_ok());
        let snapshots = mirror.index().snapshots(TIMELINE).unwrap().len();
        (state.first_seq, snapshots, packs)
    };
    assert_eq!(kept(32), (3, 2, [true, true]));
    assert_eq!(kept(33), (6, 1, [false, true]));
    // However long nothing comes.
    assert_eq!(kept(3000), (6, 1, [false, true]));
    assert_eq!(mirror.state().unwrap().head.seq, 10);
}

fn tests_config(keep_days: u32) -> Config {
    use backstop_protocol::grant::{Grant, Scope, SignedGrant};
    let node_key = secp256k1::SecretKey::from_secret_bytes([1; 32]).unwrap();
    let grant = Grant {
        access_key: backstop_protocol::id::AccessKey([2; 32]),
        scope: Scope::Read,
        node: backstop_protocol::id::NodeId(node_key.public_key().serialize()),
        network: backstop_protocol::id::Network::Regtest,
        serial: 2,
        expires_at: None,
    };
    Config {
        version: 1,
        node: grant.node,
        network: grant.network,
        keep_days,
        proxy: None,
        grant: SignedGrant::sign(&grant, &node_key),
        servers: vec![crate::directory::ServerConfig {
            url: "http://127.0.0.1:8750".into(),
            key: backstop_protocol::id::ServerKey([3; 32]),
        }],
    }
}

#[test]
fn what_a_mirror_was_told_is_read_as_it_was_written_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    assert!(!Config::exists(dir.path()));
    tests_config(30).write(dir.path()).unwrap();
    assert_eq!(Config::read(dir.path()).unwrap(), tests_config(30));
    assert!(tests_config(0).write(dir.path()).is_err());
    let path = dir.path().join("mirror.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    for (from, to) in [
        ("version = 1", "version = 2"),
        ("may read", "may append"),
        ("keep_days", "keep_weeks"),
    ] {
        std::fs::write(&path, text.replace(from, to)).unwrap();
        assert!(
            matches!(Config::read(dir.path()), Err(MirrorError::Bad { .. })),
            "{from}"
        );
    }
}

#[test]
fn an_access_key_is_made_once_and_is_its_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let rng = SharedRng::system();
    let made = access_key(dir.path(), &rng).unwrap().access_key();
    assert_eq!(access_key(dir.path(), &rng).unwrap().access_key(), made);
    let path = dir.path().join(ACCESS);
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o400
    );
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o440)).unwrap();
    assert!(matches!(
        access_key(dir.path(), &rng),
        Err(MirrorError::Exposed { .. })
    ));
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "no key").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    assert!(matches!(
        access_key(dir.path(), &rng),
        Err(MirrorError::Bad { .. })
    ));
}

#[test]
fn one_process_follows_with_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let held = lock(dir.path()).unwrap();
    assert!(matches!(lock(dir.path()), Err(MirrorError::Busy(_))));
    drop(held);
    lock(dir.path()).unwrap();
}
