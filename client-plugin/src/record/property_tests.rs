//! Any statements at all come back, and compression only ever helps.

use super::{
    Compression, Sealer,
    testing::{Chain, KEY, batch, first_batch, opener, update},
};
use proptest::prelude::*;

/// Pieces of which statements like and unlike CLN's are made.
fn sql() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        "UPDATE [ab] SET c=",
        " WHERE d=[0-3]",
        "x'([0-9a-f]{2}){0,40}'",
        "x'[0-9A-F]{0,7}'",
        "'[a-c']{0,9}'",
        "-?[0-9]{1,21}",
        Just("NULL".to_owned()),
        Just("x'00112233445566778899'".to_owned()),
        "[ -~]{0,5}",
    ];
    let text = proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat().into_bytes());
    prop_oneof![4 => text, 1 => proptest::collection::vec(any::<u8>(), 0..60)]
}

fn compression() -> impl Strategy<Value = Compression> {
    prop_oneof![3 => Just(Compression::Full), 1 => Just(Compression::None)]
}

proptest! {
    #[test]
    fn any_statements_in_any_batches_come_back_byte_by_byte(
        batches in proptest::collection::vec((any::<u8>(), any::<bool>(), proptest::collection::vec(sql(), 0..6)), 1..12),
        compression in compression(),
    ) {
        let mut chain = Chain::new();
        chain.sealer = Sealer::with_key(&KEY).compression(compression);
        let mut opener = opener();
        for (data_version, first, statements) in batches {
            let data_version = u64::from(data_version);
            let content = if first { first_batch(data_version, &statements) } else { batch(data_version, &statements) };
            let sealed = chain.push(&content);
            prop_assert_eq!(opener.open(&sealed.bytes), Ok((sealed.header, content)));
        }
    }

    #[test]
    fn compression_never_makes_a_record_longer(statements in proptest::collection::vec(sql(), 0..20)) {
        let content = batch(1, &statements);
        let mut none = Chain::new();
        none.sealer = Sealer::with_key(&KEY).compression(Compression::None);
        prop_assert!(Chain::new().push(&content).bytes.len() <= none.push(&content).bytes.len());
    }

    #[test]
    fn batches_of_the_same_few_shapes_come_back_byte_by_byte(numbers in proptest::collection::vec(0_u64..20, 1..60)) {
        let mut chain = Chain::new();
        let mut opener = opener();
        for statements in numbers.chunks(4) {
            let mut statements: Vec<_> = statements.iter().copied().map(update).collect();
            statements.push("UPDATE vars SET intval = intval + 1 WHERE name = 'data_version' AND intval = 6".to_owned());
            let content = batch(7, &statements);
            let sealed = chain.push(&content);
            prop_assert_eq!(opener.open(&sealed.bytes), Ok((sealed.header, content)));
        }
    }
}
