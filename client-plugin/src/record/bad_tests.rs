//! Content that is authentic and wrong, as a bug of a writer could make it: refused by name, never a panic (I12).

use super::{
    Content, OpenError,
    codec::{Decoder, Encoder, read_plain},
    padding::padded,
    testing::{Chain, KEY, TIMELINE, batch, opener},
};
use backstop_protocol::{
    bytes::Malformed,
    id::RecordHash,
    record::{RecordHeader, RecordKind},
};
use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305};
use proptest::prelude::*;

fn seal(kind: RecordKind, plain: &[u8]) -> Vec<u8> {
    let prev = RecordHash([3; 32]);
    let header = RecordHeader {
        kind,
        timeline: TIMELINE,
        epoch: 1,
        seq: 5000,
        prev,
        nonce: [1; 24],
    };
    let clear = header.encode();
    let mut bytes = plain.to_vec();
    let cipher = XChaCha20Poly1305::new((&KEY).into());
    let tag = cipher
        .encrypt_inout_detached((&header.nonce).into(), &clear, bytes.as_mut_slice().into())
        .unwrap();
    [clear, bytes, tag.to_vec()].concat()
}

/// Length and padding as they should be.
fn wrap(content: &[u8]) -> Vec<u8> {
    let mut plain = u32::try_from(content.len()).unwrap().to_be_bytes().to_vec();
    plain.extend_from_slice(content);
    plain.resize(padded(plain.len()), 0);
    plain
}

fn open(kind: RecordKind, plain: &[u8]) -> Result<Content, OpenError> {
    opener().open(&seal(kind, plain)).map(|(_, content)| content)
}

/// A batch's content: flags, run, data version 1, then `rest`.
fn content(flags: u8, rest: &[u8]) -> Vec<u8> {
    let mut content = vec![flags];
    content.extend_from_slice(&[9; 16]);
    content.push(1);
    content.extend_from_slice(rest);
    content
}

#[test]
fn wrong_padding_is_refused() {
    let bad = Err(Malformed::Field("padding").into());
    let good = wrap(&content(0, &[0, 0, 0]));
    assert!(open(RecordKind::Batch, &good).is_ok());
    for at in 4 + 21..good.len() {
        let mut plain = good.clone();
        plain[at] = 1;
        assert_eq!(open(RecordKind::Batch, &plain), bad, "{at}");
    }
    let mut longer = good.clone();
    longer.resize(272, 0);
    assert_eq!(open(RecordKind::Batch, &longer), bad);
    let mut beyond = good;
    beyond[..4].copy_from_slice(&253_u32.to_be_bytes());
    assert_eq!(open(RecordKind::Batch, &beyond), Err(Malformed::Short.into()));
}

#[test]
fn wrong_content_of_a_batch_is_refused_by_name() {
    let field = |name| Malformed::Field(name);
    for (flags, rest, want) in [
        (4, &[0, 0, 0][..], field("flags")),
        (0, &[], Malformed::Short),
        (1, &[1, 0, 0], field("context")),
        (0, &[0x80, 16, 0, 0], field("context")),
        (0, &[0, 4, 0], field("codec")),
        (0, &[0, 0, 0x80, 0], field("number")),
        (
            0,
            &[0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f],
            field("length of statements"),
        ),
        (0, &[0, 0, 1], field("length of statements")),
        (0, &[0, 0, 1, 2, b'a', b'b'], field("length of statements")),
        (0, &[0, 0, 2, 2, b'a'], Malformed::Short),
        (0, &[0, 1, 1, 200, 1, 0], field("deflated stream")),
        (0, &[0, 2, 1, 0], field("shape")),
        (0, &[0, 2, 1, 1], field("shape")),
        (0, &[0, 2, 1, 5], field("shape")),
        (0, &[0, 2, 1, 4, 2, b'a', 0, 6, 1], field("earlier value")),
        (0, &[0, 2, 1, 4, 2, b'a', 0, 6, 0], field("earlier value")),
        (0, &[0, 2, 1, 4, 2, b'a', 0, 3, 0], field("value")),
        (0, &[0, 2, 2, 4, 2, b'a', 0, 73, 1], field("shape")),
        (0, &[0, 2, 9, 4, 2, b'a', 0, 73, 5, 2, 0], field("row")),
        (0, &[0, 2, 9, 4, 2, b'a', 0, 73, 5, 0, 2], field("mask")),
        (0, &[0, 2, 1, 4, 2, b'a', 0, 73], field("length of statements")),
        (0, &[0, 2, 3, 4, 2, b'a', 0, 73], field("length of statements")),
    ] {
        assert_eq!(
            open(RecordKind::Batch, &wrap(&content(flags, rest))),
            Err(want.into()),
            "{flags} {rest:?}"
        );
    }
    // The same, right: "a1", then once more from its row.
    let right = content(0, &[0, 2, 4, 4, 2, b'a', 0, 73, 5, 0, 0]);
    assert_eq!(
        open(RecordKind::Batch, &wrap(&right)),
        Ok(batch(1, &["a1", "a1"]))
    );
}

#[test]
fn wrong_content_of_a_gap_or_policy_is_refused_by_name() {
    let field = |name| Malformed::Field(name);
    let gap = content(0, &[1; 16]);
    assert!(open(RecordKind::Gap, &wrap(&gap)).is_ok());
    assert_eq!(
        open(RecordKind::Gap, &wrap(&gap[..33])),
        Err(Malformed::Short.into())
    );
    assert_eq!(
        open(RecordKind::Gap, &wrap(&[&gap[..], &[0]].concat())),
        Err(Malformed::Trailing(1).into())
    );
    assert_eq!(
        open(RecordKind::Gap, &wrap(&content(2, &[1; 16]))),
        Err(field("flags").into())
    );
    let policy = |require: u8, count: u8, url: &[u8]| {
        let mut content = vec![0];
        content.extend_from_slice(&[9; 16]);
        content.extend_from_slice(&[require, count, u8::try_from(url.len()).unwrap()]);
        content.extend_from_slice(url);
        content.extend_from_slice(&[4; 32]);
        open(RecordKind::Policy, &wrap(&content)).map(|_| ())
    };
    assert_eq!(policy(1, 1, b"u"), Ok(()));
    let named = |by: &[u8]| {
        let mut content = vec![0; 17];
        content.extend_from_slice(&[1, 1, 1, b'u']);
        content.extend_from_slice(&[7; 32]);
        content.extend_from_slice(by);
        open(RecordKind::Policy, &wrap(&content)).map(|_| ())
    };
    assert_eq!(named(b"\x00\x01m"), Ok(()));
    assert_eq!(named(b"\x00\x01\n"), Err(field("name of the machine").into()));
    assert_eq!(named(b"\x00\x01\xff"), Err(field("name of the machine").into()));
    assert_eq!(named(b"\x00"), Err(field("seconds of a spool").into()));
    assert_eq!(named(b"\x00\x00"), Err(Malformed::Trailing(1).into()));
    assert_eq!(named(b"\x01\x01m"), Ok(()));
    assert_eq!(named(b"\x00\x01mm"), Err(Malformed::Trailing(1).into()));
    assert_eq!(
        policy(0, 1, b"u"),
        Err(field("number of servers required").into())
    );
    assert_eq!(
        policy(3, 1, b"u"),
        Err(field("number of servers required").into())
    );
    assert_eq!(policy(1, 0, b"u"), Err(Malformed::Trailing(34).into()));
    assert_eq!(policy(1, 17, b"u"), Err(field("number of servers").into()));
    assert_eq!(policy(1, 2, b"u"), Err(Malformed::Short.into()));
    assert_eq!(policy(1, 1, b"\xff"), Err(field("server URL").into()));
    assert_eq!(policy(1, 1, b""), Err(field("server URL").into()));
    assert_eq!(policy(1, 1, b"a\n"), Err(field("server URL").into()));
    let spooling = |spool: &[u8]| {
        let mut content = vec![0];
        content.extend_from_slice(&[9; 16]);
        content.extend_from_slice(&[1, 1, 1, b'u']);
        content.extend_from_slice(&[4; 32]);
        content.extend_from_slice(spool);
        open(RecordKind::Policy, &wrap(&content)).map(|_| ())
    };
    assert_eq!(spooling(&[60]), Ok(()));
    assert_eq!(spooling(&[0]), Err(field("seconds of a spool").into()));
    assert_eq!(spooling(&[0x91, 0x1c]), Err(field("seconds of a spool").into()));
    assert_eq!(spooling(&[60, 0]), Err(Malformed::Trailing(1).into()));
}

#[test]
fn few_bytes_that_stand_for_many_are_refused_before_they_are_written() {
    // A text of 60,000 bytes, then ever the same again: each byte of the stream would be a statement of that length.
    let long = format!("'{}'", "a".repeat(60_000));
    let mut stream = Vec::new();
    let mut encoder = Encoder::default();
    encoder.encode(1, &[long.clone().into_bytes(), long.into_bytes()], &mut stream);
    let repeated = *stream.last().unwrap();
    stream.resize(stream.len() + 100_000, repeated);
    let error = Decoder::default().decode(1, &stream, 10 * 60_002).unwrap_err();
    assert_eq!(error, Malformed::Field("length of statements"));
}

proptest! {
    #[test]
    fn no_authentic_content_makes_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), kind in 1_u8..4) {
        let kind = RecordKind::try_from(kind).unwrap();
        let _ = open(kind, &bytes);
        let _ = open(kind, &wrap(&bytes));
        let _ = opener().peek(&seal(kind, &wrap(&bytes)));
    }

    #[test]
    fn no_stream_makes_a_decoder_panic(bytes in proptest::collection::vec(prop_oneof![0_u8..8, any::<u8>()], 0..200)) {
        let _ = Decoder::default().decode(3, &bytes, 10_000);
        let _ = read_plain(&bytes, 10_000);
    }

    #[test]
    fn a_stream_changed_in_a_byte_is_read_as_something_or_refused(at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let statements: Vec<Vec<u8>> = (0..6)
            .map(|n| format!("UPDATE t SET a={n}, b=x'00112233445566', c='text' WHERE d={}", n % 2).into_bytes())
            .collect();
        let mut stream = Vec::new();
        let mut encoder = Encoder::default();
        encoder.encode(1, &statements, &mut stream);
        encoder.encode(1, &statements, &mut stream);
        let at = at.index(stream.len());
        stream[at] = to;
        let _ = Decoder::default().decode(1, &stream, 2 * statements.iter().map(Vec::len).sum::<usize>());
    }

    #[test]
    fn a_peek_never_needs_what_an_opener_needs(n in 1_u64..6) {
        let mut chain = Chain::new();
        let mut last = Vec::new();
        for version in 0..n {
            last = chain.push(&batch(version, &["DELETE FROM t WHERE id=1"])).bytes.to_vec();
        }
        let peek = opener().peek(&last).unwrap();
        prop_assert_eq!((peek.data_version, peek.context_seq, peek.header.seq), (Some(n - 1), 1, n));
    }
}
