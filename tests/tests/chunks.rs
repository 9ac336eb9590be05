//! Where chunks lie, as a server tells it (SPEC 6.2).

use anyhow::{Result, ensure};
use backstop_protocol::{
    api,
    chunk::{encode_ids, parse_places},
    hash::sha256,
    id::{ChunkId, RecordHash},
    pack::PackBuilder,
};
use backstop_tests::{
    caller::{Caller, record},
    servers::Server,
};

#[test]
fn chunks_are_found_in_the_order_asked_for_however_many_are_asked_for() -> Result<()> {
    let server = Server::start()?;
    let mut caller = Caller::new(server.address(), 1)?;
    caller.open(caller.opening(0))?;
    let first = caller.call("POST", api::RECORDS, &record(1, 1, RecordHash::NONE))?;
    ensure!(first.status == 200, "{}", String::from_utf8_lossy(&first.body));
    let ids: Vec<_> = (0..api::LOCATE_MAX)
        .map(|n| ChunkId(sha256(&n.to_be_bytes())))
        .collect();
    // The ends of what is asked for, and both sides of places where a server may take a breath.
    let is_held = |at: usize| at % 128 <= 1 || at + 1 == ids.len();
    let mut builder = PackBuilder::default();
    let mut lengths = (0..).map(|n| api::SEALED_CHUNK_MIN + n);
    let mut held = Vec::new();
    for (at, id) in ids.iter().enumerate() {
        let len = is_held(at).then(|| lengths.next()).flatten();
        if let Some(len) = len {
            builder.push(*id, &vec![1; len]);
        }
        held.push(len);
    }
    let (pack, bytes) = builder.finish();
    let stored = caller.call("PUT", &format!("{}/{pack}", api::PACKS), &bytes)?;
    ensure!(stored.status == 200, "{}", String::from_utf8_lossy(&stored.body));

    let asked = caller.call("POST", api::LOCATE, &encode_ids(&ids))?;
    ensure!(asked.status == 200, "{}", String::from_utf8_lossy(&asked.body));
    let places = parse_places(&asked.body, ids.len())?;
    for (at, (place, held)) in places.iter().zip(&held).enumerate() {
        let len = place
            .as_ref()
            .map(|place| usize::try_from(place.len))
            .transpose()?;
        ensure!(len == *held, "chunk {at}: {len:?} instead of {held:?}");
    }
    let none = caller.call("POST", api::LOCATE, &[])?;
    ensure!(none.status == 200 && parse_places(&none.body, 0)?.is_empty());
    Ok(())
}
