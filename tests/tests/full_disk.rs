//! The server's disk is full: the plugin waits, the log stays whole, and room heals everything (I1, I13).

use anyhow::{Context, Result, ensure};
use backstop_protocol::{api, id::RecordHash, problem::ProblemCode, record::record_hash};
use backstop_tests::{
    caller::{Caller, record},
    servers::Server,
};

#[test]
fn without_room_a_record_is_refused_with_507_and_nothing_is_lost() -> Result<()> {
    let Some(server) = Server::start_with_room(4 << 20, &[])? else {
        return Ok(());
    };
    let mut caller = Caller::new(server.address(), 1)?;
    caller.open(caller.opening(0))?;
    let (mut seq, mut prev) = (0, RecordHash::NONE);
    let full = loop {
        let mut bytes = record(1, seq + 1, prev);
        bytes.resize(200_000, 7);
        let answer = caller.call("POST", api::RECORDS, &bytes)?;
        if answer.status != 200 {
            break answer;
        }
        (seq, prev) = (seq + 1, record_hash(&bytes));
        ensure!(seq < 100, "so much does not fit into the room");
    };
    assert_eq!(
        (full.status, full.problem()?.code),
        (507, ProblemCode::StorageFull)
    );
    // The head is the last record that was acknowledged, and reading goes on.
    let account = caller.account()?;
    assert_eq!((account.head.seq, account.head.hash), (seq, prev));
    let page = caller.call("GET", &format!("{}?from={seq}", api::RECORDS), b"")?;
    assert_eq!(page.status, 200);
    let frames = api::parse_frames(&page.body)?;
    assert_eq!(record_hash(frames.first().context("a frame")?.1), prev);
    Ok(())
}
