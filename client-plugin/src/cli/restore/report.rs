//! What a person sees of a restore.

use super::place::{HsmSecretRest, Rest};
use crate::{
    cli::{Here, history::held, outage::may_be_missing},
    plugin::Utc,
    restore::Restored,
};
use backstop_protocol::{api::AccountState, id::ServerKey};
use std::{
    io::{self, Write},
    path::Path,
};

/// Says whose backup was found.
pub(super) fn found(
    out: &mut dyn Write,
    state: &AccountState,
    key: ServerKey,
    pinned: bool,
) -> io::Result<()> {
    writeln!(out, "Found     node {} on {}", state.node, state.network)?;
    writeln!(out, "          record {}{}", state.head.seq, received(state))?;
    if !pinned {
        writeln!(
            out,
            "          on the server with the key {key}; its operator can tell you whether it is the right one"
        )?;
    }
    Ok(())
}

/// Says when the machine that writes was last heard of: what a person looks at before it is fenced off.
pub(super) fn last_heard(out: &mut dyn Write, state: &AccountState) -> io::Result<()> {
    match state.writer_seen_at {
        Some(seen) => writeln!(
            out,
            "Writer    last heard from {} s ago ({})",
            state.time.millis_since(seen) / 1000,
            Utc(seen)
        ),
        None => Ok(()),
    }
}

/// Says what was restored.
pub(super) fn restored(out: &mut dyn Write, restored: &Restored, state: &AccountState) -> io::Result<()> {
    let Restored {
        database,
        database_len,
        head,
        data_version,
        snapshot,
        records,
        ..
    } = restored;
    writeln!(out, "Restored  {} ({database_len} bytes)", database.display())?;
    writeln!(
        out,
        "          record {} of epoch {}, data_version {data_version}{}",
        head.seq,
        head.epoch,
        received(state)
    )?;
    match snapshot {
        Some(snapshot) => writeln!(
            out,
            "          from the snapshot after record {} and {records} record(s)",
            snapshot.base_seq
        )?,
        None => writeln!(out, "          from {records} record(s), the first one included")?,
    }
    writeln!(
        out,
        "          in {}.{:03} s",
        restored.elapsed_ms / 1000,
        restored.elapsed_ms % 1000
    )?;
    writeln!(
        out,
        "Checked   every seal, the chain of records, each step of data_version, integrity_check, {}, {}",
        match restored.orphans {
            0 => "foreign_key_check".to_owned(),
            orphans =>
                format!("foreign_key_check ({orphans} row(s) without a parent were in the snapshot already)"),
        },
        if restored.node.is_some() {
            "the node's id"
        } else {
            "(the database does not name its node yet)"
        },
    )?;
    if let Some(since) = state.held_since {
        writeln!(out, "{}", held(since))?;
    }
    writeln!(
        out,
        "Fenced    the machine that wrote this backup until now is refused from here on"
    )
}

/// Says what may not have been restored.
pub(super) fn missing(out: &mut dyn Write, restored: &Restored) -> io::Result<()> {
    let Some(missing) = may_be_missing(restored.policy.as_ref()) else {
        return Ok(());
    };
    writeln!(
        out,
        "MISSING?  {missing}.\n          If that disk can be read and has the file, do not start this node: move {} away and type the same again with          --spool",
        restored.database.display()
    )
}

/// Says what was restored from a mirror.
pub(super) fn of_mirror(out: &mut dyn Write, restored: &Restored) -> io::Result<()> {
    writeln!(
        out,
        "Restored  {} ({} bytes)\n          record {} of epoch {}, data_version {}\nChecked   every seal, the chain of \
         records, each step of data_version, integrity_check, foreign_key_check",
        restored.database.display(),
        restored.database_len,
        restored.head.seq,
        restored.head.epoch,
        restored.data_version
    )
}

/// Says what to do next.
pub(super) fn next(out: &mut dyn Write, rest: &Rest, here: &Here) -> io::Result<()> {
    let Rest { node, hsm_secret } = rest;
    let path = node.hsm_secret();
    let path = path.display();
    writeln!(
        out,
        "Wrote     {}, with which the backup goes on from here",
        node.backstop().display()
    )?;
    if *hsm_secret == HsmSecretRest::Written {
        writeln!(out, "          {path}, from the words")?;
    }
    writeln!(out, "\nNext:")?;
    let mut step = 0;
    let mut say = |text: String| {
        step += 1;
        writeln!(out, "  {step}. {text}")
    };
    if let Some(step) = secret_step(hsm_secret, &node.hsm_secret()) {
        say(step)?;
    }
    say(format!(
        "make sure that this line is in {}:\n\n         important-plugin={}\n",
        node.base().join("config").display(),
        here.program.display()
    ))?;
    say("never start the old machine's copy of this node again;".to_owned())?;
    say(format!(
        "start lightningd with --lightning-dir={} --network={}",
        node.base().display(),
        node.network()
    ))?;
    out.flush()
}

/// What there is to do about `hsm_secret`, which belongs at `path`.
pub(super) fn secret_step(rest: &HsmSecretRest, path: &Path) -> Option<String> {
    let path = path.display();
    match rest {
        HsmSecretRest::There | HsmSecretRest::Written => None,
        HsmSecretRest::ThereLocked => Some(format!(
            "{path} was there and has a passphrase: make sure that it is this node's;"
        )),
        HsmSecretRest::Copy(file) => Some(format!(
            "put the secret in its place: install -m 400 {} {path}",
            file.display()
        )),
        HsmSecretRest::Missing => Some(format!(
            "put the node's hsm_secret to {path}, or start lightningd with the node's signer;"
        )),
    }
}

fn received(state: &AccountState) -> String {
    state.head_received_at.map_or_else(String::new, |at| {
        let minutes = state.time.millis_since(at) / 60_000;
        format!(", received {} ({minutes} min ago by the server's clock)", Utc(at))
    })
}
