//! Real batches through the sealer and back: all bytes equal, and few of them.

use super::{
    Batch, Content, Opener, Sealer,
    testing::{Chain, KEY, TestRng},
};
use backstop_protocol::id::RunId;
use rand_core::Rng as _;
use std::{fmt::Write as _, io::BufRead as _, path::PathBuf};

/// What the sealed log of the real trace may cost, bytes for each byte of SQL, everything included. The bar is 0.20.
const RATIO_MAX: f64 = 0.141;

#[derive(serde::Deserialize)]
struct Line {
    run: u8,
    data_version: u64,
    writes: Vec<String>,
}

/// The recorded batches, where the fixtures are at hand.
fn recorded() -> Option<Vec<Line>> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures");
    let folder = std::env::var_os("BACKSTOP_FIXTURES").map_or(beside, PathBuf::from);
    let file = std::fs::File::open(folder.join("cln-v26.06-trace.jsonl.zst")).ok()?;
    let lines = std::io::BufReader::new(zstd::Decoder::new(file).unwrap()).lines();
    Some(
        lines
            .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
            .collect(),
    )
}

/// Statements of the forms that CLN sends most, over a few channels.
fn synthetic() -> Vec<Line> {
    let mut rng = TestRng(5);
    let mut random = |len: usize| {
        let mut bytes = vec![0; len];
        rng.fill_bytes(&mut bytes);
        hex::encode(bytes)
    };
    let fixed: Vec<String> = (0..40).map(|_| random(33)).collect();
    let line = |n: u64| {
        let channel = n % 3;
        let mut update = format!(
            "UPDATE channels SET next_index_local={n}, last_tx=x'{}'",
            random(300)
        );
        for (column, key) in fixed.iter().enumerate() {
            let _ = write!(update, ", column_{column}=x'{key}'");
        }
        let _ = write!(
            update,
            ", last_sig=x'{}', closer=NULL, label='it''s' WHERE id={channel}",
            random(64)
        );
        let version = format!(
            "UPDATE vars SET intval = intval + 1 WHERE name = 'data_version' AND intval = {}",
            n - 1
        );
        let writes = vec![
            update.clone(),
            update,
            format!("DELETE FROM channel_feerates WHERE channel_id={channel}"),
            version,
        ];
        Line {
            run: if n < 500 { 1 } else { 2 },
            data_version: n,
            writes,
        }
    };
    (1..1000).map(line).collect()
}

fn contents(lines: Vec<Line>) -> impl Iterator<Item = Content> {
    let mut last_run = 0;
    lines.into_iter().map(move |line| {
        let opens_run = std::mem::replace(&mut last_run, line.run) != line.run;
        Content::Batch(Batch {
            run: RunId([line.run; 16]),
            opens_run,
            outside_transaction: line.writes.iter().all(|sql| sql.starts_with("PRAGMA")),
            data_version: line.data_version,
            statements: line.writes.into_iter().map(String::into_bytes).collect(),
        })
    })
}

#[test]
fn every_recorded_batch_comes_back_byte_by_byte_at_a_fraction_of_its_size() {
    let lines = recorded().unwrap_or_else(|| {
        println!("The recorded trace is not here (BACKSTOP_FIXTURES); a synthetic one serves.");
        synthetic()
    });
    let mut chain = Chain::new();
    let mut opener = Opener::with_key(&KEY);
    let (mut sql, mut sealed, mut batches, mut smallest) = (0, 0, 0, 0);
    for content in contents(lines) {
        let record = chain.push(&content);
        if let Content::Batch(batch) = &content {
            sql += batch.statements.iter().map(Vec::len).sum::<usize>();
        }
        sealed += record.bytes.len();
        batches += 1;
        smallest += usize::from(record.bytes.len() == backstop_protocol::record::RECORD_MIN);
        let peek = opener.peek(&record.bytes).unwrap();
        assert_eq!((peek.run, peek.opens_run), (content.run(), content.opens_run()));
        assert!(
            opener.open(&record.bytes).unwrap() == (record.header, content),
            "batch {batches}"
        );
    }
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    let ratio = sealed as f64 / sql as f64;
    println!("{batches} batches, {smallest} of the least size; {sealed} of {sql} bytes: {ratio:.4}");
    assert!(ratio <= RATIO_MAX, "{ratio}");
}

#[test]
fn equal_content_in_equal_places_gives_equal_records_but_for_the_nonce() {
    let seal = || {
        let mut chain = Chain::new();
        contents(synthetic())
            .map(|content| chain.push(&content).hash)
            .collect::<Vec<_>>()
    };
    assert_eq!(seal(), seal());
}

#[test]
fn without_compression_a_record_is_as_long_as_its_statements_and_no_longer_than_padding_makes_it() {
    let mut chain = Chain::new();
    chain.sealer = Sealer::with_key(&KEY).compression(super::Compression::None);
    let mut opener = Opener::with_key(&KEY);
    for content in contents(synthetic()).take(20) {
        let record = chain.push(&content);
        assert_eq!(opener.peek(&record.bytes).unwrap().context_seq, record.header.seq);
        let Content::Batch(batch) = &content else { continue };
        let sql: usize = batch.statements.iter().map(Vec::len).sum();
        assert!(record.bytes.len() > sql && record.bytes.len() < sql + sql / 8 + 256);
        assert!(opener.open(&record.bytes).unwrap().1 == content);
    }
}
