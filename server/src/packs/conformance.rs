//! The rules of [`PackStore`], each stated once and run against every pack store: see [`for_every_rule`].

use super::*;
use std::sync::Arc;

const MINE: AccountId = AccountId(1);
const OTHERS: AccountId = AccountId(2);
const PACK: PackId = PackId([0xab; 32]);
const NEXT: PackId = PackId([0xac; 32]);

/// Hands the names of all rules to a macro, which makes a test of each: `async fn rule(packs: Arc<dyn PackStore>)`.
macro_rules! for_every_rule {
    ($run:ident) => {
        $run! {
            a_pack_comes_back_whole_and_in_parts_to_its_own_account_alone,
            a_part_beyond_the_end_is_refused_with_the_length,
            a_removed_pack_is_gone_and_may_be_removed_again_and_stored_again,
            packs_are_listed_by_account,
            many_at_once_do_not_disturb_each_other,
            a_large_pack_comes_back_as_it_was,
        }
    };
}
pub(crate) use for_every_rule;

pub(crate) async fn a_pack_comes_back_whole_and_in_parts_to_its_own_account_alone(packs: Arc<dyn PackStore>) {
    for _ in 0..2 {
        let bytes = Bytes::from_static(b"0123456789");
        packs.put(MINE, PACK, bytes).await.unwrap();
    }
    let get = async |account, range| packs.get(account, PACK, range).await.unwrap();
    assert_eq!(get(MINE, None).await.unwrap(), "0123456789");
    for (offset, length, want) in [(8, 2, "89"), (0, 1, "0"), (0, 10, "0123456789")] {
        let part = PackRange { offset, length };
        assert_eq!(get(MINE, Some(part)).await.unwrap(), want);
    }
    let part = PackRange { offset: 0, length: 1 };
    assert!(get(OTHERS, None).await.is_none());
    assert!(get(OTHERS, Some(part)).await.is_none());
    assert!(packs.get(MINE, NEXT, Some(part)).await.unwrap().is_none());
}

pub(crate) async fn a_part_beyond_the_end_is_refused_with_the_length(packs: Arc<dyn PackStore>) {
    packs
        .put(MINE, PACK, Bytes::from_static(b"0123456789"))
        .await
        .unwrap();
    for (offset, length) in [(8, 3), (10, 1), (11, 1), (u32::MAX, u32::MAX)] {
        let part = PackRange { offset, length };
        let refused = packs.get(MINE, PACK, Some(part)).await;
        assert!(matches!(refused, Err(PackError::OutOfRange(10))), "{refused:?}");
    }
}

pub(crate) async fn a_removed_pack_is_gone_and_may_be_removed_again_and_stored_again(
    packs: Arc<dyn PackStore>,
) {
    packs.remove(MINE, PACK).await.unwrap();
    for _ in 0..2 {
        packs.put(MINE, PACK, Bytes::from_static(b"01")).await.unwrap();
        assert!(packs.get(MINE, PACK, None).await.unwrap().is_some());
        packs.remove(MINE, PACK).await.unwrap();
        packs.remove(MINE, PACK).await.unwrap();
        assert!(packs.get(MINE, PACK, None).await.unwrap().is_none());
    }
}

pub(crate) async fn packs_are_listed_by_account(packs: Arc<dyn PackStore>) {
    assert_eq!(packs.list(MINE).await.unwrap(), []);
    packs.put(MINE, PACK, Bytes::from_static(b"01")).await.unwrap();
    packs.put(MINE, NEXT, Bytes::from_static(b"012")).await.unwrap();
    packs.put(OTHERS, PACK, Bytes::from_static(b"01")).await.unwrap();
    packs.probe().await.unwrap();
    let mut listed = packs.list(MINE).await.unwrap();
    listed.sort_by_key(|found| found.pack);
    let found = |pack, bytes| StoredPack { pack, bytes };
    assert_eq!(listed, [found(PACK, 2), found(NEXT, 3)]);
    assert_eq!(packs.list(OTHERS).await.unwrap(), [found(PACK, 2)]);
    // 1 is no beginning of 10.
    assert_eq!(packs.list(AccountId(10)).await.unwrap(), []);
    let mut accounts = packs.accounts().await.unwrap();
    accounts.sort_by_key(|account| account.0);
    assert_eq!(accounts, [MINE, OTHERS]);
}

pub(crate) async fn many_at_once_do_not_disturb_each_other(packs: Arc<dyn PackStore>) {
    let run = |number: u8| {
        let packs = packs.clone();
        tokio::spawn(async move {
            let (pack, bytes) = (PackId([number; 32]), vec![number; 1000]);
            packs.put(MINE, pack, bytes.clone().into()).await.unwrap();
            packs.put(MINE, PACK, vec![7; 1000].into()).await.unwrap();
            assert_eq!(packs.get(MINE, pack, None).await.unwrap().unwrap(), bytes);
            assert_eq!(packs.get(MINE, PACK, None).await.unwrap().unwrap(), vec![7; 1000]);
        })
    };
    for done in (1..=12).map(run).collect::<Vec<_>>() {
        done.await.unwrap();
    }
    assert_eq!(packs.list(MINE).await.unwrap().len(), 13);
}

pub(crate) async fn a_large_pack_comes_back_as_it_was(packs: Arc<dyn PackStore>) {
    let bytes: Vec<u8> = (0..backstop_protocol::api::PACK_MAX)
        .map(|at| u8::try_from(at * 31 % 251).unwrap())
        .collect();
    packs.put(MINE, PACK, bytes.clone().into()).await.unwrap();
    let part = PackRange {
        offset: 9_000_001,
        length: 100_000,
    };
    let got = packs.get(MINE, PACK, Some(part)).await.unwrap().unwrap();
    assert_eq!(got, bytes[9_000_001..9_100_001]);
    assert!(packs.get(MINE, PACK, None).await.unwrap().unwrap() == bytes);
}
