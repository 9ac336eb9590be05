//! The conformance suite on a real S3 server, and what happens when it fails.

#[path = "../../../tests/http/support/cut.rs"]
mod cut;
#[path = "../../../tests/http/support/storage.rs"]
mod storage;

use super::*;
use crate::packs::{BucketKeys, conformance};
use cut::{Fault, Hop};
use std::sync::Arc;
use storage::{KEY_ID, SECRET, Storage};

const MINE: AccountId = AccountId(1);
const PACK: PackId = PackId([0xab; 32]);
const STORE: StoreId = StoreId([0x5a; 16]);

fn bucket(name: &str, endpoint: &str) -> Bucket {
    let url = format!("s3://{name}/some/where").parse().unwrap();
    Bucket {
        endpoint: Some(endpoint.to_owned()),
        timeout: Duration::from_secs(20),
        keys: Some(BucketKeys {
            id: KEY_ID.to_owned(),
            secret: SECRET.to_owned(),
        }),
        ..Bucket::new(url)
    }
}

async fn open(bucket: &Bucket) -> Result<BucketPacks, PackError> {
    BucketPacks::open(bucket, STORE, 1).await
}

macro_rules! on_s3 {
    ($($rule:ident,)*) => {
        $(
            #[tokio::test]
            async fn $rule() {
                let storage = Storage::shared();
                let packs = open(&bucket(&storage.bucket(), &storage.endpoint)).await.unwrap();
                conformance::$rule(Arc::new(packs)).await;
            }
        )*
    };
}

conformance::for_every_rule!(on_s3);

/// Packs behind a hop, whose requests end soon.
async fn behind() -> (Hop, BucketPacks) {
    let storage = Storage::shared();
    let hop = Hop::before(&storage.endpoint).await;
    let mut bucket = bucket(&storage.bucket(), &hop.endpoint);
    bucket.timeout = Duration::from_secs(1);
    let packs = open(&bucket).await.unwrap();
    (hop, packs)
}

fn away<T: std::fmt::Debug>(outcome: Result<T, PackError>) -> String {
    match outcome {
        Err(PackError::Unavailable(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn databases_over_one_bucket_do_not_see_each_others_packs() {
    let storage = Storage::shared();
    let bucket = bucket(&storage.bucket(), &storage.endpoint);
    let one = open(&bucket).await.unwrap();
    let two = BucketPacks::open(&bucket, StoreId([1; 16]), 1).await.unwrap();
    one.put(MINE, PACK, Bytes::from_static(b"01")).await.unwrap();
    assert!(two.get(MINE, PACK, None).await.unwrap().is_none());
    assert_eq!(two.accounts().await.unwrap(), []);
    two.remove(MINE, PACK).await.unwrap();
    // Another process of the same server does.
    let again = BucketPacks::open(&bucket, STORE, 2).await.unwrap();
    assert_eq!(again.get(MINE, PACK, None).await.unwrap().unwrap(), "01");
}

#[tokio::test]
async fn a_bucket_that_cannot_be_used_is_refused_at_the_start_without_its_secret() {
    let storage = Storage::shared();
    let there = storage.bucket();
    let hop = Hop::before(&storage.endpoint).await;
    hop.set(Fault::Answer("404 Not Found", "NoSuchBucket"));
    let said = away(open(&bucket(&there, &hop.endpoint)).await.map(|_| ()));
    assert!(said.contains("NoSuchBucket"), "{said}");
    let mut wrong = bucket(&there, &storage.endpoint);
    wrong.keys = Some(BucketKeys {
        id: KEY_ID.to_owned(),
        secret: "hunter2".to_owned(),
    });
    let said = away(open(&wrong).await.map(|_| ()));
    assert!(
        said.contains("SignatureDoesNotMatch") && !said.contains("hunter2"),
        "{said}"
    );
    let mut nobody = bucket(&there, "http://127.0.0.1:1");
    nobody.timeout = Duration::from_millis(200);
    away(open(&nobody).await.map(|_| ()));
}

#[tokio::test]
async fn a_storage_that_is_overloaded_is_asked_again_and_then_the_client_is() {
    let (hop, packs) = behind().await;
    let bytes = Bytes::from_static(b"0123456789");
    for (status, code) in [
        ("503 Slow Down", "SlowDown"),
        ("500 Internal Server Error", "InternalError"),
    ] {
        hop.set(Fault::Answer(status, code));
        let before = hop.struck();
        away(packs.put(MINE, PACK, bytes.clone()).await);
        assert_eq!(hop.struck() - before, 1 + RETRIES, "{code}");
        away(packs.get(MINE, PACK, None).await);
        // Not this one: it could strike what is stored afterwards.
        let before = hop.struck();
        away(packs.remove(MINE, PACK).await);
        assert_eq!(hop.struck() - before, 1, "{code}");
        away(packs.probe().await);
    }
    hop.set(Fault::None);
    packs.put(MINE, PACK, bytes.clone()).await.unwrap();
    assert_eq!(packs.get(MINE, PACK, None).await.unwrap().unwrap(), bytes);
}

#[tokio::test]
async fn a_storage_that_never_answers_is_given_up() {
    let (hop, packs) = behind().await;
    hop.set(Fault::Silence);
    away(packs.put(MINE, PACK, Bytes::from_static(b"01")).await);
    away(packs.get(MINE, PACK, None).await);
    hop.set(Fault::None);
    assert!(packs.get(MINE, PACK, None).await.unwrap().is_none());
}

#[tokio::test]
async fn a_refused_key_or_a_lost_bucket_does_not_make_a_pack_missing() {
    let (hop, packs) = behind().await;
    for (status, code) in [
        ("403 Forbidden", "AccessDenied"),
        ("404 Not Found", "NoSuchBucket"),
    ] {
        hop.set(Fault::Answer(status, code));
        let said = away(packs.get(MINE, PACK, None).await);
        assert!(said.contains(code), "{said}");
    }
    hop.set(Fault::Answer("404 Not Found", "NoSuchKey"));
    assert!(packs.get(MINE, PACK, None).await.unwrap().is_none());
}

#[tokio::test]
async fn an_upload_that_is_cut_stores_nothing_and_succeeds_when_it_is_sent_again() {
    let (hop, packs) = behind().await;
    let bytes = Bytes::from(vec![7; 4 << 20]);
    hop.set(Fault::CutUpload(1 << 20));
    away(packs.put(MINE, PACK, bytes.clone()).await);
    assert!(hop.struck() >= 1);
    hop.set(Fault::None);
    assert!(packs.get(MINE, PACK, None).await.unwrap().is_none());
    assert_eq!(packs.list(MINE).await.unwrap(), []);
    packs.put(MINE, PACK, bytes.clone()).await.unwrap();
    assert!(packs.get(MINE, PACK, None).await.unwrap().unwrap() == bytes);
}

#[tokio::test]
async fn a_download_that_is_cut_is_no_pack_and_comes_whole_when_it_is_asked_for_again() {
    let (hop, packs) = behind().await;
    let bytes = Bytes::from(vec![7; 4 << 20]);
    packs.put(MINE, PACK, bytes.clone()).await.unwrap();
    let part = PackRange {
        offset: 1,
        length: 2 << 20,
    };
    // Each connection carries less than the attempts there are would need.
    hop.set(Fault::CutDownload(100_000));
    for range in [None, Some(part)] {
        let got = packs.get(MINE, PACK, range).await;
        away(got.map(|bytes| bytes.map(|bytes| bytes.len())));
    }
    // And then enough: what is missing is asked for where it was cut.
    hop.set(Fault::CutDownload(3 << 20));
    let before = hop.struck();
    assert!(packs.get(MINE, PACK, None).await.unwrap().unwrap() == bytes);
    assert!(hop.struck() > before);
}
