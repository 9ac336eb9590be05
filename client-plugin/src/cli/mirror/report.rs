//! What a mirror holds, and how old it is.

use crate::{
    cli::when::Stamp,
    mirror::{Mirror, State},
};
use backstop_protocol::{
    clock::UnixMillis,
    head::Head,
    id::{Network, NodeId},
};
use serde::Serialize;
use std::{
    io::{self, Write},
    path::Path,
};

/// What `--json` prints; members are added, never changed.
#[derive(Serialize)]
struct Held {
    node: NodeId,
    network: Network,
    /// Where it ends.
    head: Head,
    /// The same as `restore --expect` takes it.
    expect: String,
    /// When a server received that record.
    head_received_at: Option<UnixMillis>,
    /// When a server last said that this is all; `null` where none did.
    heard_at: Option<UnixMillis>,
    /// This machine's clock.
    now: UnixMillis,
}

/// Says it.
pub(super) fn say(dir: &Path, json: bool, now: UnixMillis) -> anyhow::Result<()> {
    let mirror = Mirror::open(dir)?;
    let state = mirror.state()?;
    let mut out = io::stdout().lock();
    if json {
        let held = Held {
            node: mirror.config().node,
            network: mirror.config().network,
            head: state.head,
            expect: state.head.to_string(),
            head_received_at: state.head_received_at,
            heard_at: state.heard_at,
            now,
        };
        writeln!(out, "{}", serde_json::to_string_pretty(&held)?)?;
        return Ok(());
    }
    writeln!(
        out,
        "Mirror    of node {} on {}",
        mirror.config().node,
        mirror.config().network
    )?;
    describe(&mut out, &state, now)?;
    Ok(())
}

/// How far a mirror is.
pub(in crate::cli) fn describe(out: &mut dyn Write, state: &State, now: UnixMillis) -> io::Result<()> {
    if state.head.is_empty() {
        return writeln!(out, "          holds no record yet");
    }
    writeln!(
        out,
        "          ends at record {} of epoch {} ({})",
        state.head.seq, state.head.epoch, state.head
    )?;
    if let Some(at) = state.head_received_at {
        writeln!(out, "          which the server received at {}", Stamp(at))?;
    }
    match state.heard_at {
        Some(at) => writeln!(
            out,
            "          and was all that the server had {} s ago, at {}",
            now.millis_since(at) / 1000,
            Stamp(at)
        ),
        None => writeln!(out, "          and no server has confirmed that this is all"),
    }
}
