use super::*;
use backstop_protocol::{
    bytes::kind,
    record::{RECORD_MIN, RecordKind},
};
use proptest::prelude::*;
use std::os::unix::fs::PermissionsExt as _;

const TIMELINE: TimelineId = TimelineId([7; 16]);

/// So many records behind `prev` at `seq`; nothing here opens them.
fn chain(count: u64) -> Vec<Entry> {
    let mut prev = RecordHash([9; 32]);
    let mut entries = Vec::new();
    for seq in 5..5 + count {
        let header = RecordHeader {
            kind: RecordKind::try_from(kind::BATCH).unwrap(),
            timeline: TIMELINE,
            epoch: 3,
            seq,
            prev,
            nonce: [0; 24],
        };
        let mut sealed = header.encode();
        sealed.resize(RECORD_MIN + usize::try_from(seq).unwrap(), 0xab);
        let entry = Entry::of(sealed.into()).unwrap();
        prev = entry.head.hash;
        entries.push(entry);
    }
    entries
}

fn before() -> Head {
    Head {
        epoch: 3,
        seq: 4,
        hash: RecordHash([9; 32]),
    }
}

/// The bytes of a spool of these records.
fn written(entries: &[Entry]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    let (first, rest) = entries.split_first().unwrap();
    let mut file = SpoolFile::begin(&path, UnixMillis(11), first).unwrap();
    for entry in rest {
        file.add(entry).unwrap();
    }
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(file.len(), bytes.len() as u64);
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        MODE
    );
    bytes
}

#[test]
fn what_is_written_is_read_again_and_a_removed_spool_is_none() {
    let entries = chain(3);
    let bytes = Bytes::from(written(&entries));
    let read = Spooled::parse(&bytes).unwrap().unwrap();
    assert_eq!((read.since, read.torn), (UnixMillis(11), 0));
    assert_eq!(read.len, bytes.len() as u64);
    assert_eq!(read.end(), entries[2].head);
    assert_eq!(read.records, entries);

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    std::fs::write(&path, &bytes).unwrap();
    remove(&path).unwrap();
    remove(&path).unwrap();
    assert!(Spooled::read(&path).unwrap().is_none());
}

#[test]
fn a_spool_goes_on_from_the_head_before_it_or_from_one_of_its_own_and_from_nothing_else() {
    let entries = chain(3);
    let spooled = Spooled::parse(&written(&entries).into()).unwrap().unwrap();
    let after = |head| spooled.after(Some(TIMELINE), head).map(<[Entry]>::len);
    assert_eq!(after(before()), Ok(3));
    for (at, entry) in entries.iter().enumerate() {
        assert_eq!(after(entry.head), Ok(2 - at));
    }
    let other = Head {
        hash: RecordHash([1; 32]),
        ..before()
    };
    for head in [
        other,
        Head { seq: 3, ..before() },
        Head { epoch: 4, ..before() },
        Head {
            epoch: 4,
            ..entries[1].head
        },
    ] {
        assert_eq!(after(head), Err(Astray));
    }
    assert_eq!(spooled.after(Some(TimelineId([8; 16])), before()), Err(Astray));
    assert_eq!(spooled.after(None, before()), Err(Astray));
}

#[test]
fn a_record_in_the_middle_that_is_not_whole_is_damage_and_no_torn_end() {
    let entries = chain(3);
    let bytes = written(&entries);
    let second = START + PREFIX + entries[0].sealed.len();
    for at in [second, second + 4, second + PREFIX + 100] {
        let mut bad = bytes.clone();
        bad[at] ^= 0x10;
        assert!(Spooled::parse(&bad.into()).is_err(), "byte {at}");
    }
    let mut out_of_order = written(&entries[..1]);
    push(&mut out_of_order, &entries[2]).unwrap();
    assert!(Spooled::parse(&out_of_order.into()).is_err());
}

#[test]
fn a_file_of_another_version_is_refused() {
    let mut bytes = written(&chain(1));
    bytes[7] = 2;
    assert!(Spooled::parse(&bytes.into()).is_err());
    assert!(Spooled::parse(&Bytes::from_static(b"else")).is_err());
    assert_eq!(Spooled::parse(&Bytes::new()), Ok(None));
}

proptest! {
    #[test]
    fn cut_anywhere_it_loses_at_most_the_record_that_is_cut(count in 1_u64..5, cut in any::<prop::sample::Index>()) {
        let entries = chain(count);
        let bytes = written(&entries);
        let keep = cut.index(bytes.len());
        let mut whole = 0;
        let mut at = START;
        for entry in &entries {
            at += PREFIX + entry.sealed.len();
            whole += usize::from(at <= keep);
        }
        let read = Spooled::parse(&Bytes::copy_from_slice(&bytes[..keep])).unwrap();
        prop_assert_eq!(read.as_ref().map_or(0, |read| read.records.len()), whole);
        if let Some(read) = read {
            prop_assert_eq!(read.len + read.torn, keep as u64);
            prop_assert_eq!(&read.records[..], &entries[..whole]);
        }
    }

    #[test]
    fn zeros_where_the_last_record_should_be_are_a_torn_end(count in 1_u64..4, zeros in 1_usize..2000) {
        let entries = chain(count);
        let mut bytes = written(&entries);
        bytes.resize(bytes.len() + zeros, 0);
        let read = Spooled::parse(&bytes.into()).unwrap().unwrap();
        prop_assert_eq!(read.records, entries);
        prop_assert_eq!(read.torn, zeros as u64);
    }

    #[test]
    fn no_bytes_make_it_panic_and_none_make_up_a_record(mut noise in prop::collection::vec(any::<u8>(), 0..600), begun in any::<bool>()) {
        if begun {
            noise.splice(..noise.len().min(8), MAGIC.iter().copied());
        }
        if let Ok(read) = Spooled::parse(&noise.into()) {
            prop_assert!(read.is_none());
        }
    }
}
