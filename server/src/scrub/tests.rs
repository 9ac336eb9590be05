//! A scrub over a real database and a real directory, and what it says of what is wrong.

use super::*;
use crate::{
    packs::DirectoryPacks,
    store::{
        ChunkEntry, PackArrival, PackIndex, ScrubStore as _, SqliteStore, Terms,
        conformance::{Session, claim},
    },
};
use backstop_protocol::{
    clock::UnixMillis,
    id::{ChunkId, PackId},
    pack::{PackBuilder, parse_pack},
};
use getrandom::{SysRng, rand_core::UnwrapErr};
use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};
use std::path::PathBuf;
use tempfile::TempDir;

struct Now;

impl Clock for Now {
    fn now(&self) -> UnixMillis {
        UnixMillis(1_000_000)
    }
}

struct World {
    dir: TempDir,
    store: Arc<SqliteStore>,
    packs: Arc<DirectoryPacks>,
    session: Session,
}

impl World {
    /// An account with five records, two packs and a snapshot of both.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("store");
        let store = SqliteStore::open(&file, None, Terms::default(), &mut UnwrapErr(SysRng)).await;
        let store = Arc::new(store.unwrap());
        let packs = Arc::new(DirectoryPacks::open(&dir.path().join("packs")).unwrap());
        let session = Session::first(&*store, 1).await;
        let mut world = Self {
            dir,
            store,
            packs,
            session,
        };
        for fill in 1..=5 {
            world.session.append(&*world.store, fill).await;
        }
        world.put(&[10, 11]).await;
        world.put(&[20]).await;
        let commit = world.session.commit(1, None, &[10, 20], &[]);
        world.store.commit_snapshot(commit).await.unwrap();
        world
    }

    async fn put(&self, chunks: &[u8]) -> PackId {
        let mut builder = PackBuilder::default();
        for chunk in chunks {
            builder.push(ChunkId([*chunk; 32]), &[*chunk; 300]);
        }
        let (pack, bytes) = builder.finish();
        let entries = parse_pack(&bytes).unwrap();
        let entries = entries.iter().map(|entry| ChunkEntry {
            id: entry.id,
            offset: entry.offset,
            len: 300,
        });
        let (account, now) = (self.session.account, Now.now());
        let index = PackIndex {
            account,
            pack,
            chunks: entries.collect(),
            now,
        };
        let arrival = PackArrival {
            account,
            pack,
            bytes: bytes.len() as u64,
            judged: true,
            now,
        };
        self.store.register_pack(arrival).await.unwrap();
        self.packs.put(account, pack, bytes.into()).await.unwrap();
        self.store.index_pack(index).await.unwrap();
        pack
    }

    async fn scrub(&self) -> Result<Report, ScrubError> {
        let scrubber = Scrubber::new(self.store.clone(), self.packs.clone(), Arc::new(Now), 0);
        scrubber.everything().await
    }

    /// What is wrong: its kind and what it concerns.
    async fn faults(&self) -> Vec<(FaultKind, String)> {
        let report = self.scrub().await.unwrap();
        let said = report.to_string();
        for fault in &report.faults {
            assert!(
                said.contains(fault.kind.as_str()) && said.contains(&fault.object),
                "{said}"
            );
            assert!(fault.node.is_some());
        }
        let faults = report.faults.into_iter();
        faults.map(|fault| (fault.kind, fault.object)).collect()
    }

    /// Changes the database as no server of ours does.
    async fn change(&self, sql: &'static str) {
        let options = SqliteConnectOptions::new().filename(self.dir.path().join("store"));
        let mut connection = options.foreign_keys(false).connect().await.unwrap();
        sqlx::raw_sql("PRAGMA ignore_check_constraints = ON")
            .execute(&mut connection)
            .await
            .unwrap();
        let done = sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        assert!(done.rows_affected() > 0, "{sql}");
        connection.close().await.unwrap();
    }

    fn file(&self, pack: PackId) -> PathBuf {
        let (account, name) = (self.session.account.to_string(), pack.to_string());
        self.dir
            .path()
            .join("packs")
            .join(account)
            .join(&name[..2])
            .join(name)
    }
}

#[tokio::test]
async fn what_is_as_it_was_acknowledged_is_said_to_be() {
    let world = World::new().await;
    let report = world.scrub().await.unwrap();
    assert_eq!(report.faults, []);
    let counts = (
        report.accounts,
        report.records,
        report.snapshots,
        report.packs,
        report.chunks,
    );
    assert_eq!(counts, (1, 5, 1, 2, 3));
    assert_eq!(report.record_bytes, 5 * 366);
    assert_eq!(report.pack_bytes, 6 + 2 * 336 + 6 + 336);
    assert_eq!((report.orphans, report.healed), (0, 0));
    assert!(report.to_string().contains("as it was acknowledged"));
}

#[tokio::test]
async fn whatever_happened_to_a_log_is_named() {
    use FaultKind::{ChainBroken, HeadWrong, RecordDamaged, SnapshotOffChain};
    for (sql, kind, object) in [
        (
            "UPDATE records SET sealed = zeroblob(366) WHERE seq = 3",
            RecordDamaged,
            "record 3",
        ),
        (
            "UPDATE records SET sealed = x'00' WHERE seq = 1",
            RecordDamaged,
            "record 1",
        ),
        (
            "UPDATE records SET epoch = 7 WHERE seq = 2",
            RecordDamaged,
            "record 2",
        ),
        ("DELETE FROM records WHERE seq = 3", ChainBroken, "record 4"),
        ("DELETE FROM records WHERE seq = 1", ChainBroken, "record 1"),
        ("DELETE FROM records WHERE seq = 5", ChainBroken, "record 5"),
        ("DELETE FROM records", ChainBroken, "record 1"),
        (
            "UPDATE accounts SET head_hash = zeroblob(32)",
            HeadWrong,
            "record 5",
        ),
        ("UPDATE accounts SET first_seq = 2", SnapshotOffChain, "record 1"),
        ("UPDATE snapshots SET base_seq = 1", SnapshotOffChain, "record 1"),
    ] {
        let world = World::new().await;
        if sql.contains("first_seq") {
            world.change("UPDATE snapshots SET base_seq = 1").await;
        }
        world.change(sql).await;
        let faults = world.faults().await;
        assert!(faults.contains(&(kind, object.to_owned())), "{sql}: {faults:?}");
    }
}

#[tokio::test]
async fn whatever_happened_to_a_snapshot_or_to_files_is_named() {
    let world = World::new().await;
    world
        .change("UPDATE snapshots SET manifest = zeroblob(400)")
        .await;
    let faults = world.faults().await;
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].0, FaultKind::ManifestDamaged);
    let world = World::new().await;
    world
        .change("INSERT INTO files (account, received_at, bytes, sealed) VALUES (1, 1, 400, zeroblob(400))")
        .await;
    // Not the newest version alone.
    world
        .change("INSERT INTO files (account, received_at, bytes, sealed) VALUES (1, 2, 400, zeroblob(400))")
        .await;
    let damaged = |version| (FaultKind::FilesDamaged, format!("files, version {version}"));
    assert_eq!(world.faults().await, [damaged(1), damaged(2)]);
}

#[tokio::test]
async fn a_replaced_record_is_read_too() {
    let world = World::new().await;
    world
        .change(
            "INSERT INTO replaced_records SELECT NULL, account, seq, epoch, hash, received_at, 5, epoch + 1, bytes, sealed
             FROM records WHERE seq = 5",
        )
        .await;
    let report = world.scrub().await.unwrap();
    assert_eq!((report.records, report.faults.len()), (6, 0));
    world
        .change("UPDATE replaced_records SET sealed = zeroblob(366)")
        .await;
    let faults = world.faults().await;
    assert!(
        faults.contains(&(FaultKind::RecordDamaged, "replaced record 5".to_owned())),
        "{faults:?}"
    );
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_named_and_the_other_accounts_are_looked_at() {
    let world = World::new().await;
    let mut other = Session::open(&*world.store, 2, claim(2, 2, 0, 1)).await;
    other.append(&*world.store, 1).await;
    world
        .change("UPDATE records SET hash = x'00' WHERE account = 1 AND seq = 2")
        .await;
    let report = world.scrub().await.unwrap();
    assert_eq!(report.faults[0].kind, FaultKind::Unreadable);
    assert_eq!((report.accounts, report.records), (2, 1));
}

#[tokio::test]
async fn a_lost_a_damaged_and_a_misplaced_pack_are_named_marked_and_healed() {
    let world = World::new().await;
    let pack = world.put(&[10, 11]).await;
    let file = world.file(pack);
    let whole = std::fs::read(&file).unwrap();
    let marked = async || world.store.damaged_packs(world.session.account).await.unwrap();
    let object = format!("pack {pack}");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(world.faults().await, [(FaultKind::PackLost, object.clone())]);
    assert_eq!(marked().await, [pack]);
    // Said again as long as it is so.
    assert_eq!(world.faults().await, [(FaultKind::PackLost, object.clone())]);
    for bytes in [&whole[1..], b"", &[&whole[..], b"x"].concat()] {
        std::fs::write(&file, bytes).unwrap();
        assert_eq!(world.faults().await, [(FaultKind::PackDamaged, object.clone())]);
        std::fs::remove_file(&file).unwrap();
    }
    std::fs::write(&file, &whole).unwrap();
    let report = world.scrub().await.unwrap();
    assert_eq!((report.faults.len(), report.healed), (0, 1));
    assert_eq!(marked().await, []);
    world.change("UPDATE chunks SET offset = offset + 1 WHERE len = 300 AND id = unhex('0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b')").await;
    assert_eq!(world.faults().await, [(FaultKind::IndexWrong, object)]);
    // Sent again it takes its right place.
    world.put(&[11, 12]).await;
    world.put(&[10, 13]).await;
    assert_eq!(world.faults().await, []);
}

#[tokio::test]
async fn a_disk_that_is_not_mounted_lost_no_pack() {
    let world = World::new().await;
    std::fs::remove_dir_all(world.dir.path().join("packs")).unwrap();
    let failed = world.scrub().await;
    assert!(matches!(failed, Err(ScrubError::Packs(_))), "{failed:?}");
    assert_eq!(
        world.store.damaged_packs(world.session.account).await.unwrap(),
        []
    );
}

#[tokio::test]
async fn a_pack_that_the_database_does_not_know_is_counted_and_no_fault() {
    let world = World::new().await;
    let (account, stray) = (AccountId(9), PackId([9; 32]));
    world.packs.put(account, stray, vec![1; 77].into()).await.unwrap();
    world
        .packs
        .put(world.session.account, stray, vec![1; 7].into())
        .await
        .unwrap();
    let report = world.scrub().await.unwrap();
    assert_eq!((report.orphans, report.orphan_bytes), (2, 84));
    assert_eq!(report.faults, []);
    assert!(report.to_string().contains("2 packs (84 bytes)"));
}

#[tokio::test]
async fn a_server_scrubs_each_account_in_its_turn_and_counts_what_it_finds() {
    let world = World::new().await;
    let metrics = ScrubMetrics::default();
    let schedule = Schedule {
        scrubber: Scrubber::new(world.store.clone(), world.packs.clone(), Arc::new(Now), 0),
        clock: Arc::new(Now),
        every: Duration::from_secs(10),
        metrics: metrics.clone(),
    };
    let pack = world.put(&[10, 11]).await;
    std::fs::remove_file(world.file(pack)).unwrap();
    assert!(schedule.next().await);
    assert!(!schedule.next().await);
    let mut registry = prometheus_client::registry::Registry::default();
    metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "scrub_accounts_total 1",
        "scrub_faults_total{kind=\"pack_lost\"} 1",
        "scrub_faults_total{kind=\"chain_broken\"} 0",
        "scrub_last_end_seconds 1000",
    ] {
        assert!(text.contains(line), "{text}");
    }
}
