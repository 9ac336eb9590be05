//! The rules of sealing and opening, on records of every kind.

use super::{
    Batch, CONTEXT_RECORDS, Compression, Content, Gap, OpenError, Opener, Policy, PolicyServer, Require,
    SealError, Sealed, Sealer,
    context::RESTART_WEIGHT,
    testing::{Chain, KEY, TestRng, batch, first_batch, opener, random_hex, update},
};
use backstop_protocol::{
    bytes::Malformed,
    id::{RecordHash, RunId, ServerKey, SnapshotId},
    record::{HEADER_LEN, RECORD_MIN, RecordKind},
};
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305,
    aead::{Aead as _, Payload},
};
use rand_core::Rng as _;

fn gap() -> Content {
    Content::Gap(Gap {
        run: RunId([9; 16]),
        opens_run: false,
        data_version: 300,
        snapshot: SnapshotId([5; 16]),
    })
}

fn policy(urls: &[&str]) -> Content {
    let server = |(n, url): (u8, &&str)| PolicyServer {
        url: (*url).to_owned(),
        key: ServerKey([n; 32]),
    };
    let servers = (1..).zip(urls).map(server).collect();
    Content::Policy(Policy {
        run: RunId([9; 16]),
        opens_run: false,
        servers,
        require: Require::Majority,
        spool_seconds: 0,
        by: urls
            .last()
            .map_or_else(String::new, |_| "host, /there".to_owned()),
    })
}

#[test]
fn content_of_every_kind_comes_back_as_it_was() {
    let mut chain = Chain::new();
    let mut opener = opener();
    let outside = Content::Batch(Batch {
        run: RunId([1; 16]),
        opens_run: true,
        outside_transaction: true,
        data_version: u64::MAX,
        statements: vec![b"PRAGMA foreign_keys = OFF;".to_vec()],
    });
    let none: [&str; 0] = [];
    let urls = ["https://one.example", "http://two.onion:8750/path"];
    for content in [
        outside,
        batch(0, &none),
        gap(),
        policy(&urls),
        batch(7, &[""]),
        batch(8, &[update(1)]),
    ] {
        let sealed = chain.push(&content);
        let peek = opener.peek(&sealed.bytes).unwrap();
        assert_eq!(
            (peek.header, peek.run, peek.opens_run),
            (sealed.header, content.run(), content.opens_run())
        );
        assert_eq!(peek.outside_transaction, content.opens_run());
        assert_eq!(
            peek.data_version.is_none(),
            peek.header.kind == RecordKind::Policy
        );
        assert_eq!(opener.open(&sealed.bytes), Ok((sealed.header, content)));
    }
}

#[test]
fn sealer_and_opener_may_move_to_another_thread() {
    fn moves<T: Send>(_: &T) {}
    moves(&Chain::new().sealer);
    moves(&opener());
}

#[test]
fn small_records_have_one_size() {
    let mut chain = Chain::new();
    for content in [
        batch(1, &["a"]),
        batch(2, &["x".repeat(200)]),
        gap(),
        policy(&["https://one.example"]),
    ] {
        assert_eq!(chain.push(&content).bytes.len(), RECORD_MIN);
    }
}

#[test]
fn statements_that_are_no_sql_come_back_byte_by_byte() {
    let odd: Vec<Vec<u8>> = vec![
        vec![],
        b"UPDATE t SET a='never closed".to_vec(),
        b"x'".to_vec(),
        b"x'abc'".to_vec(),
        b"x'AbCd'X'00'".to_vec(),
        b"'\xff\xfe''\x80'".to_vec(),
        b"\xff\xfe=12".to_vec(),
        b"a=\0,b='\0'".to_vec(),
        b"a='\0'".to_vec(),
        b"VALUES(-0,00,18446744073709551616,1e9,-.5)".to_vec(),
        b"--1 /* ' */".to_vec(),
        "VALUES (1,2),".repeat(3000).into_bytes(),
        "c".repeat(70_000).into_bytes(),
        format!("SET a='{}' WHERE b=1", "long ".repeat(30_000)).into_bytes(),
        format!("SET a=1 WHERE b='{}'", "long ".repeat(30_000)).into_bytes(),
        b"UPDATE vars SET intval = intval + 1 WHERE name = 'data_version' AND intval = 4".to_vec(),
        b"UPDATE vars SET intval = intval + 1 WHERE name = 'data_version' AND intval = 3".to_vec(),
    ];
    let mut chain = Chain::new();
    let mut opener = opener();
    for _ in 0..3 {
        let content = batch(5, &odd);
        assert!(opener.open(&chain.push(&content).bytes).unwrap().1 == content);
    }
}

#[test]
fn a_statement_of_any_length_is_one_record() {
    let mut chain = Chain::new();
    let mut opener = opener();
    let hex = random_hex(&mut TestRng(3), 1 << 20);
    for sql in [
        format!("UPDATE datastore SET data=x'{hex}' WHERE key=1"),
        hex.clone(),
        hex.repeat(8),
    ] {
        let content = batch(
            1,
            &[sql.as_str(), "DELETE FROM t WHERE id=1", sql.get(..1000).unwrap()],
        );
        let sealed = chain.push(&content);
        assert!(sealed.bytes.len() < sql.len());
        assert!(opener.open(&sealed.bytes).unwrap().1 == content);
    }
}

#[test]
fn a_record_changed_in_any_byte_or_cut_anywhere_is_refused() {
    let sealed = Chain::new().push(&first_batch(1, &[update(1)]));
    let mut opener = opener();
    for at in 0..sealed.bytes.len() {
        let mut changed = sealed.bytes.to_vec();
        changed[at] ^= 1;
        let error = opener.open(&changed).unwrap_err();
        assert_eq!(opener.peek(&changed).unwrap_err(), error);
        assert!(
            at < 38 || error == OpenError::BadSeal || error == Malformed::Field("previous hash").into(),
            "{at}"
        );
        assert!(opener.open(&sealed.bytes[..at]).is_err());
    }
    assert_eq!(
        Opener::with_key(&[1; 32]).open(&sealed.bytes),
        Err(OpenError::BadSeal)
    );
    assert!(opener.open(&sealed.bytes).is_ok());
}

#[test]
fn a_record_is_opened_only_after_all_records_of_its_context() {
    let mut chain = Chain::new();
    let sealed: Vec<_> = (0..6)
        .map(|n| chain.push(&batch(n, &[update(n)])).bytes)
        .collect();
    let mut opener = opener();
    assert_eq!(opener.peek(&sealed[3]).unwrap().context_seq, 1);
    let missing = Err(OpenError::ContextMissing { context_seq: 1 });
    assert_eq!(opener.open(&sealed[1]).map(|_| ()), missing);
    assert!(opener.open(&sealed[0]).is_ok());
    assert_eq!(opener.open(&sealed[2]).map(|_| ()), missing, "one was left out");
    assert!(opener.open(&sealed[1]).is_ok(), "a refusal loses nothing");
    assert_eq!(opener.open(&sealed[1]).map(|_| ()), missing, "the same once more");
    let mut other = Chain::new();
    other.rng = TestRng(77);
    let foreign: Vec<_> = (0..6)
        .map(|n| other.push(&batch(n, &[update(n)])).bytes)
        .collect();
    assert_eq!(opener.open(&foreign[2]).map(|_| ()), missing, "of another chain");
    for record in &sealed[2..] {
        assert!(opener.open(record).is_ok());
    }
}

#[test]
fn a_context_ends_at_a_run_a_gap_a_restart_and_a_break_of_the_chain_but_not_at_a_policy() {
    let mut chain = Chain::new();
    let opener = opener();
    let starts = |chain: &mut Chain, content: &Content| {
        let sealed = chain.push(content);
        opener.peek(&sealed.bytes).unwrap().context_seq
    };
    let next = batch(2, &[update(1)]);
    assert_eq!(starts(&mut chain, &first_batch(1, &[update(1)])), 1);
    assert_eq!(starts(&mut chain, &next), 1);
    assert_eq!(starts(&mut chain, &policy(&["https://one.example"])), 3);
    assert_eq!(starts(&mut chain, &next), 1);
    assert_eq!(starts(&mut chain, &first_batch(3, &[update(1)])), 5);
    assert_eq!(starts(&mut chain, &next), 5);
    assert_eq!(starts(&mut chain, &gap()), 7);
    assert_eq!(starts(&mut chain, &next), 8);
    assert_eq!(starts(&mut chain, &next), 8);
    chain.sealer.restart();
    assert_eq!(starts(&mut chain, &next), 10);
    // As if the last record had been replaced by another writer's.
    chain.next.prev = RecordHash([1; 32]);
    assert_eq!(starts(&mut chain, &next), 11);
    chain.next.seq -= 1;
    assert_eq!(starts(&mut chain, &next), 11);
}

#[test]
fn a_reader_may_begin_wherever_a_context_does() {
    let mut chain = Chain::new();
    chain.push(&first_batch(1, &[update(1)]));
    chain.sealer.restart();
    let mut opener = opener();
    for n in 2..9 {
        let content = batch(n, &[update(n), update(n)]);
        assert_eq!(opener.open(&chain.push(&content).bytes).unwrap().1, content);
    }
}

#[test]
fn a_context_serves_a_bounded_number_of_records() {
    let mut chain = Chain::new();
    let opener = opener();
    let starts: Vec<u64> = (0..CONTEXT_RECORDS + 2)
        .map(|n| {
            opener
                .peek(&chain.push(&batch(n, &["DELETE FROM t WHERE id=1"])).bytes)
                .unwrap()
                .context_seq
        })
        .collect();
    let last = usize::try_from(CONTEXT_RECORDS).unwrap() - 1;
    assert_eq!(
        (starts[0], starts[last], starts[last + 1], starts[last + 2]),
        (1, 1, 2049, 2049)
    );
}

#[test]
fn a_heavy_context_is_left_and_a_full_one_learns_nothing_more() {
    let mut chain = Chain::new();
    let mut opener = opener();
    let mut rng = TestRng(8);
    let mut statements = |count: usize| -> Vec<String> {
        let mut sql = |n| {
            format!(
                "UPDATE t{n} SET a=x'{}' WHERE b={n}",
                random_hex(&mut rng, 30_000)
            )
        };
        (0..count).map(&mut sql).collect()
    };
    let full = statements(RESTART_WEIGHT / 30_000);
    // The later statements of the first record find it full, and the second record finds it heavy.
    for want in [1, 2, 2] {
        let content = batch(1, if want == 1 { &full } else { &full[..3] });
        let sealed = chain.push(&content);
        assert_eq!(opener.peek(&sealed.bytes).unwrap().context_seq, want);
        assert!(opener.open(&sealed.bytes).unwrap().1 == content);
    }
}

#[test]
fn bytes_that_do_not_shrink_cost_no_more_than_without_compression() {
    let mut rng = TestRng(4);
    let mut full = Chain::new();
    let mut opener = opener();
    let mut fell_back = 0;
    for len in 200..600 {
        let mut sql = vec![0; len];
        rng.fill_bytes(&mut sql);
        for byte in &mut sql {
            *byte |= 0x80;
        }
        let content = batch(1, &[sql]);
        let sealed = full.push(&content);
        let mut none = Sealer::with_key(&KEY).compression(Compression::None);
        let plain = none.seal(Chain::new().next, &content, &mut rng).unwrap();
        assert!(sealed.bytes.len() <= plain.bytes.len(), "{len}");
        fell_back += usize::from(opener.peek(&sealed.bytes).unwrap().context_seq == sealed.header.seq);
        assert_eq!(opener.open(&sealed.bytes).unwrap().1, content);
    }
    assert!(fell_back > 5, "{fell_back}");
}

#[test]
fn what_no_reader_would_take_is_not_sealed_and_spoils_nothing() {
    let mut chain = Chain::new();
    chain.push(&batch(1, &[update(1)]));
    let long = "x".repeat(Policy::URL_MAX + 1);
    let many = vec!["u"; Policy::SERVERS_MAX + 1];
    for urls in [&[][..], &[""], &["a\nb"], &[long.as_str()], &many] {
        let error = chain
            .sealer
            .seal(chain.next, &policy(urls), &mut chain.rng)
            .unwrap_err();
        assert!(
            matches!(error, SealError::Refused(Malformed::Field(_))),
            "{error}"
        );
    }
    let mut twice = policy(&["a", "b"]);
    if let Content::Policy(policy) = &mut twice {
        policy.servers[1].key = policy.servers[0].key;
    }
    assert!(chain.sealer.seal(chain.next, &twice, &mut chain.rng).is_err());
    for (epoch, seq) in [(0, 2), (1, 0), (1, 1), (u64::MAX, 2)] {
        let mut place = chain.next;
        (place.epoch, place.seq) = (epoch, seq);
        let error = chain
            .sealer
            .seal(place, &batch(2, &[update(1)]), &mut chain.rng)
            .unwrap_err();
        assert!(
            matches!(error, SealError::Refused(Malformed::Field(_))),
            "{error}"
        );
    }
    let sealed = chain.push(&batch(2, &[update(1)]));
    assert_eq!(opener().peek(&sealed.bytes).unwrap().context_seq, 2);
}

/// Randomness that counts: 0, 1, 2, …
struct Counting;

impl rand_core::TryRng for Counting {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(0)
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(0)
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        for (byte, n) in out.iter_mut().zip(0..) {
            *byte = n;
        }
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Counting {}

/// What is sealed in a record, without the zeros at its end.
fn plain(sealed: &Sealed) -> String {
    let (clear, secret) = sealed.bytes.split_at(HEADER_LEN);
    let cipher = XChaCha20Poly1305::new((&KEY).into());
    let mut plain = cipher
        .decrypt(
            (&sealed.header.nonce).into(),
            Payload {
                msg: secret,
                aad: clear,
            },
        )
        .unwrap();
    plain.truncate(plain.iter().rposition(|byte| *byte != 0).unwrap() + 1);
    hex::encode(plain)
}

#[test]
fn the_example_of_the_specification_is_sealed_as_it_says() {
    let mut chain = Chain::new();
    let first = first_batch(
        5,
        &[
            "UPDATE vars SET intval=5 WHERE name='last_processed_block';",
            "INSERT INTO blocks VALUES (184, x'00ff', NULL, -2)",
            "UPDATE vars SET intval = intval + 1 WHERE name = 'data_version' AND intval = 4",
        ],
    );
    let second = batch(
        6,
        &[
            "UPDATE vars SET intval=6 WHERE name='last_processed_block';",
            "INSERT INTO blocks VALUES (184, x'00ff', NULL, -2)",
            "DELETE FROM vars WHERE name='last_processed_block'",
        ],
    );
    let one = chain.sealer.seal(chain.next, &first, &mut Counting).unwrap();
    chain.next.seq = 2;
    chain.next.prev = one.hash;
    let two = chain.sealer.seal(chain.next, &second, &mut Counting).unwrap();
    let run = hex::encode([9; 16]);
    let stream = [
        &b"\x04\x26UPDATE vars SET intval=\0 WHERE name=\0;\x4d\x02\x14last_processed_block"[..],
        b"\x04\x26INSERT INTO blocks VALUES (\0, \0, \0, \0)\x04\xb8\x01\x09\x00\xff\x00\x05\x02",
        b"\x02",
    ];
    assert_eq!(
        plain(&one),
        format!("0000008701{run}050002bb01{}", hex::encode(stream.concat()))
    );
    let stream = [
        &b"\x00\x00\x01\x4e"[..],
        b"\x01",
        b"\x04\x1dDELETE FROM vars WHERE name=\0\x06\x01",
    ];
    assert_eq!(
        plain(&two),
        format!("0000003c00{run}0601029f01{}", hex::encode(stream.concat()))
    );
    assert_eq!(
        one.hash.to_string(),
        "da5676f263d698769be9a5c05aaf3734802791e431e43d056288e58606d51eab"
    );
    assert_eq!(
        two.hash.to_string(),
        "35e8319851d7a83dbffff1bb60c0468e5e55a9f41c33d88e51c9c1fd2b4c2fab"
    );
}
