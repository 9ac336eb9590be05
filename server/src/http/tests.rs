//! What a handler cannot be brought to from outside: a store that is away, a pack store that is full, a panic.

use super::*;
use crate::rates::Rates;
use crate::{
    packs::{PackError, PackRange, StoredPack},
    sessions::Session,
    store::{
        Account, AccountId, Alarm, AlarmStore, Append, Commit, Devices, GaugeStore, GroupSizes, Growth,
        HistoryPolicy, Leaving, Move, Overview, PackArrival, PackIndex, PackLoad, PackRow, PageStore,
        PoolGauges, PutFiles, RecordRow, Removal, ScrubStore, SessionRequest, StoreError, StoreId,
        StoredRecord, Tenancy, Watched, Word, Writer,
    },
};
use async_trait::async_trait;
use axum::{
    body::Body,
    http::{Request, Response},
};
use backstop_protocol::{
    api::{self, AccountGrants, AccountState, Appended, SnapshotInfo},
    chunk::ChunkPlace,
    clock::UnixMillis,
    grant::SignedGrant,
    hash::sha256,
    id::{AccessKey, ChunkId, InstanceId, Network, NodeId, PackId, RunId, SnapshotId},
    pack::PackBuilder,
    problem::{Problem, ProblemCode},
    removal::RemovalWord,
    session::IdentitySecret,
};
use getrandom::{SysRng, rand_core::UnwrapErr};
use tower::ServiceExt as _;

/// Panics when asked for an account, fails when asked for snapshots, and is away for everything else.
struct FaultyStore;

fn away<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable("the cable to rack 7 is out".to_owned()))
}

#[async_trait]
impl Devices for FaultyStore {
    async fn account_grants(&self, _: AccountId) -> Result<AccountGrants, StoreError> {
        away()
    }
    async fn snapshot_chunks(
        &self,
        _: AccountId,
        _: SnapshotId,
        _: Option<ChunkId>,
        _: usize,
    ) -> Result<Option<Vec<ChunkId>>, StoreError> {
        away()
    }
}

#[async_trait]
impl Store for FaultyStore {
    fn id(&self) -> StoreId {
        StoreId([1; 16])
    }
    async fn ping(&self) -> Result<(), StoreError> {
        away()
    }
    async fn grants(&self, _: AccessKey) -> Result<Vec<SignedGrant>, StoreError> {
        away()
    }
    async fn open_session(&self, _: SessionRequest) -> Result<(AccountId, AccountState), StoreError> {
        away()
    }
    async fn raise_grant_floor(&self, _: AccountId, _: u64) -> Result<(), StoreError> {
        away()
    }
    async fn account(&self, _: AccountId, _: UnixMillis) -> Result<AccountState, StoreError> {
        panic!("the sum of {} and {} was odd", 2, 2);
    }
    async fn append(&self, _: Append) -> Result<Appended, StoreError> {
        away()
    }
    async fn records(&self, _: AccountId, _: u64, _: usize) -> Result<Vec<StoredRecord>, StoreError> {
        away()
    }
    async fn register_pack(&self, _: PackArrival) -> Result<(), StoreError> {
        Ok(())
    }
    async fn index_pack(&self, _: PackIndex) -> Result<(), StoreError> {
        away()
    }
    async fn locate(&self, _: AccountId, _: Vec<ChunkId>) -> Result<Vec<Option<ChunkPlace>>, StoreError> {
        away()
    }
    async fn commit_snapshot(&self, _: Commit) -> Result<SnapshotInfo, StoreError> {
        away()
    }
    async fn snapshots(&self, _: AccountId) -> Result<Vec<SnapshotInfo>, StoreError> {
        Err(StoreError::Failed("page 4711 of the database is torn".into()))
    }
    async fn manifest(&self, _: AccountId, _: SnapshotId) -> Result<Option<Vec<u8>>, StoreError> {
        away()
    }
    async fn hear(&self, _: Word) -> Result<AccountState, StoreError> {
        away()
    }
    async fn accounts(&self, _: AccountId, _: usize) -> Result<Vec<AccountId>, StoreError> {
        away()
    }
    async fn drop_history(&self, _: AccountId, _: &HistoryPolicy, _: UnixMillis) -> Result<bool, StoreError> {
        away()
    }
    async fn drop_chunks(&self, _: AccountId, _: UnixMillis) -> Result<bool, StoreError> {
        away()
    }
    async fn pack_loads(&self, _: AccountId, _: UnixMillis) -> Result<Vec<PackLoad>, StoreError> {
        away()
    }
    async fn chunks_in(&self, _: AccountId, _: PackId) -> Result<Vec<ChunkId>, StoreError> {
        away()
    }
    async fn move_chunks(&self, _: Move) -> Result<(), StoreError> {
        away()
    }
    async fn begin_removals(&self, _: AccountId, _: UnixMillis) -> Result<Vec<PackId>, StoreError> {
        away()
    }
    async fn hold_removal(&self, _: AccountId, _: PackId) -> Result<Option<Box<dyn Removal>>, StoreError> {
        away()
    }
    async fn put_files(&self, _: PutFiles) -> Result<(), StoreError> {
        away()
    }
    async fn files(&self, _: AccountId, _: Option<UnixMillis>) -> Result<Option<Vec<u8>>, StoreError> {
        away()
    }
    async fn drop_old_files(&self, _: AccountId, _: UnixMillis) -> Result<u64, StoreError> {
        away()
    }
    async fn close(&self) {}
}

#[async_trait]
impl Tenancy for FaultyStore {
    async fn history_policy(&self, _: AccountId, _: &HistoryPolicy) -> Result<HistoryPolicy, StoreError> {
        away()
    }
    async fn hear_owner(
        &self,
        _: AccountId,
        _: RemovalWord,
        _: UnixMillis,
    ) -> Result<AccountState, StoreError> {
        away()
    }
    async fn watch(&self, _: AccountId, _: UnixMillis) -> Result<Watched, StoreError> {
        away()
    }
    async fn remove_some(&self, _: AccountId, _: UnixMillis) -> Result<Leaving, StoreError> {
        away()
    }
}

#[async_trait]
impl AlarmStore for FaultyStore {
    async fn keep_alarm(&self, _: Alarm) -> Result<bool, StoreError> {
        away()
    }
    async fn take_alarm(&self, _: UnixMillis, _: UnixMillis) -> Result<Option<(i64, Alarm)>, StoreError> {
        away()
    }
    async fn free_alarm(&self, _: i64, _: UnixMillis) -> Result<(), StoreError> {
        away()
    }
    async fn end_alarm(&self, _: i64) -> Result<(), StoreError> {
        away()
    }
}

#[async_trait]
impl GaugeStore for FaultyStore {
    async fn overview(&self, _: u32) -> Result<Overview, StoreError> {
        away()
    }
    fn pool(&self) -> PoolGauges {
        PoolGauges { used: 0, most: 0 }
    }
    fn group_sizes(&self) -> &GroupSizes {
        unreachable!("nobody asks a store that is away")
    }
}

#[async_trait]
impl PageStore for FaultyStore {
    async fn account_of(&self, _: NodeId, _: Network) -> Result<Option<Account>, StoreError> {
        away()
    }
    async fn whole_account(&self, _: AccountId) -> Result<Account, StoreError> {
        away()
    }
    async fn whole_accounts(&self, _: AccountId, _: usize) -> Result<Vec<Account>, StoreError> {
        away()
    }
    async fn growth(&self, _: AccountId) -> Result<Growth, StoreError> {
        away()
    }
}

#[async_trait]
impl ScrubStore for FaultyStore {
    async fn record_rows(&self, _: AccountId, _: u64, _: usize) -> Result<Vec<RecordRow>, StoreError> {
        away()
    }
    async fn replaced_row(
        &self,
        _: AccountId,
        _: (u64, i64),
    ) -> Result<Option<(i64, RecordRow)>, StoreError> {
        away()
    }
    async fn files_row(&self, _: AccountId, _: i64) -> Result<Option<(i64, Vec<u8>)>, StoreError> {
        away()
    }
    async fn packs_above(
        &self,
        _: AccountId,
        _: Option<PackId>,
        _: usize,
    ) -> Result<Vec<PackId>, StoreError> {
        away()
    }
    async fn pack_row(&self, _: AccountId, _: PackId) -> Result<Option<PackRow>, StoreError> {
        away()
    }
    async fn knows_pack(&self, _: AccountId, _: PackId) -> Result<bool, StoreError> {
        away()
    }
    async fn mark_pack(&self, _: AccountId, _: PackId, _: bool, _: UnixMillis) -> Result<bool, StoreError> {
        away()
    }
    async fn damaged_packs(&self, _: AccountId) -> Result<Vec<PackId>, StoreError> {
        away()
    }
    async fn begin_scrub(&self, _: UnixMillis, _: UnixMillis) -> Result<Option<AccountId>, StoreError> {
        away()
    }
}

struct FullPacks;

#[async_trait]
impl PackStore for FullPacks {
    async fn put(&self, _: AccountId, _: PackId, _: Bytes) -> Result<(), PackError> {
        Err(PackError::Full)
    }
    async fn get(&self, _: AccountId, _: PackId, _: Option<PackRange>) -> Result<Option<Bytes>, PackError> {
        Ok(None)
    }
    async fn remove(&self, _: AccountId, _: PackId) -> Result<(), PackError> {
        Ok(())
    }
    async fn accounts(&self) -> Result<Vec<AccountId>, PackError> {
        Ok(Vec::new())
    }
    async fn list(&self, _: AccountId) -> Result<Vec<StoredPack>, PackError> {
        Ok(Vec::new())
    }
    async fn probe(&self) -> Result<(), PackError> {
        Err(PackError::Full)
    }
}

struct NoTime;

impl Clock for NoTime {
    fn now(&self) -> UnixMillis {
        UnixMillis(0)
    }
}

/// Calls a server of faulty parts within a session; the answer's MAC must fit all the same.
async fn call(method: &str, path: &str, body: Vec<u8>) -> Problem {
    let identity = IdentitySecret::from_bytes(&[1; 32]).unwrap();
    let access = IdentitySecret::from_bytes(&[2; 32]).unwrap();
    let pair = access.shared_with(&identity.server_key().0).unwrap();
    let passes = Passes::new(&identity, FaultyStore.id(), None, &mut UnwrapErr(SysRng));
    let sessions = Sessions::new(identity, FaultyStore.id());
    let token = sessions.issue(&Session {
        account: AccountId(1),
        access_key: access.access_key(),
        writer: Some(Writer {
            instance: InstanceId([1; 16]),
            run: RunId([1; 16]),
            epoch: 1,
        }),
        takeover: false,
        expires_at: UnixMillis(1),
    });
    let key = pair.session_key(&token);
    let (housekeeping, _wake) = Housekeeping::new();
    let (metrics, clock) = (Metrics::new(), Arc::new(NoTime));
    let nobody = metrics.tenants().clone();
    let webhooks = Webhooks::to_nobody(nobody);
    let app = Arc::new(App {
        housekeeping,
        store: Arc::new(FaultyStore),
        packs: Arc::new(FullPacks),
        sessions,
        passes,
        terms: Terms::default(),
        clock,
        metrics,
        limiter: Limiter::new(Rates::default()),
        known: KnownKeys::default(),
        webhooks,
        proxies: Proxies::default(),
        body_grace: Duration::from_secs(30),
        arrivals: Arrivals::default(),
        stopping: watch::channel(false).1,
    });
    let router = router(&app, true);
    let mac = key.request_mac(method, path, 1, &sha256(&body));
    let authorization = format!("Backstop {token} 1 {}", hex::encode(mac));
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::AUTHORIZATION, authorization);
    let answer: Response<Body> = router
        .oneshot(request.body(Body::from(body)).unwrap())
        .await
        .unwrap();
    let (parts, body) = answer.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let mac = key.answer_mac(&mac, parts.status.as_u16(), &sha256(&body));
    assert_eq!(parts.headers[api::MAC_HEADER], hex::encode(mac));
    serde_json::from_slice(&body).unwrap()
}

#[tokio::test]
async fn a_panic_is_an_internal_error_that_carries_its_mac_and_no_message() {
    let problem = call("GET", api::HEAD, Vec::new()).await;
    assert_eq!(problem.code, ProblemCode::Internal);
    assert!(!problem.detail.contains("odd"), "{problem}");
}

#[tokio::test]
async fn a_store_that_fails_is_an_internal_error_that_does_not_say_how() {
    let problem = call("GET", api::SNAPSHOTS, Vec::new()).await;
    assert_eq!(problem.code, ProblemCode::Internal);
    assert!(!problem.detail.contains("4711"), "{problem}");
}

#[tokio::test]
async fn a_store_that_is_away_is_unavailable_and_does_not_say_why() {
    for path in ["/v1/records?from=1", api::HEALTH] {
        let problem = call("GET", path, Vec::new()).await;
        assert_eq!(problem.code, ProblemCode::Unavailable);
        assert!(!problem.detail.contains("rack"), "{problem}");
    }
}

#[tokio::test]
async fn a_pack_store_without_room_is_storage_full() {
    let mut builder = PackBuilder::default();
    builder.push(ChunkId([1; 32]), &[1; 300]);
    let (pack, bytes) = builder.finish();
    let problem = call("PUT", &format!("{}/{pack}", api::PACKS), bytes).await;
    assert_eq!(problem.code, ProblemCode::StorageFull);
}
