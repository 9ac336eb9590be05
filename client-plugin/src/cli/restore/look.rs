//! `backstop restore --at`: an earlier state, to be looked at and never to be started. It reads alone.

use crate::{
    cli::{
        bars::Bars,
        history::held,
        verify::private,
        when::{Stamp, When},
    },
    keys::Keys,
    node::Ambient,
    remote::Session,
    restore::{self, Goal, History, Patient, Request, Restored, Until},
};
use backstop_protocol::{api::AccountState, id::ServerKey};
use std::{
    io::{self, Write},
    path::Path,
    sync::Arc,
};

/// A node's past, as a session may read it.
pub(super) struct Past<'a> {
    pub(super) session: &'a Session,
    pub(super) keys: &'a Arc<Keys>,
    pub(super) server: ServerKey,
    pub(super) state: AccountState,
}

impl Past<'_> {
    /// Puts the database of that time into a file in `to`, named by its last record, and never over another one.
    pub(super) async fn put(
        self,
        at: When,
        to: &Path,
        ambient: &Ambient,
        out: &mut dyn Write,
    ) -> anyhow::Result<Restored> {
        let server = Patient::new(self.session, Patient::<Session>::PAUSES);
        let head = self.state.head;
        let history = History::read(&server, self.state).await?;
        let seq = match at {
            When::Record(seq) => history.reaches(seq).map(|()| seq),
            When::Time(at) => history.record_at(&server, at).await?,
        }?;
        private(to)?;
        let database = to.join(format!("lightningd-at-record-{seq}.sqlite3"));
        let request = Request {
            keys: self.keys,
            node: history.account.node,
            server: self.server,
            policy: None,
            goal: Goal::Seen(head),
            until: Some(Until::Record(seq)),
            database: &database,
        };
        let mut bars = Bars::default();
        let mut show = |step| bars.show(step);
        let restored = restore::restore(&server, &request, &*ambient.clock, &mut show).await;
        bars.clear();
        let restored = restored?;
        report(out, &restored, &history.account)?;
        Ok(restored)
    }
}

fn report(out: &mut dyn Write, restored: &Restored, account: &AccountState) -> anyhow::Result<()> {
    let received = restored
        .received_at
        .map_or_else(String::new, |at| format!(", received {}", Stamp(at)));
    let written: io::Result<()> = (|| {
        writeln!(
            out,
            "Wrote     {} ({} bytes)",
            restored.database.display(),
            restored.database_len
        )?;
        writeln!(
            out,
            "          the state after record {} of {}, data_version {}{received}",
            restored.seq, account.head.seq, restored.data_version
        )?;
        if let Some(since) = account.held_since {
            writeln!(out, "\n{}\n", held(since))?;
        }
        writeln!(
            out,
            "LOOK ONLY This is not the node's newest state. A node that is started on it publishes or breaks what it \
             promised since, and its peers may take all funds of its channels. Nothing was taken over: the node that \
             writes this backup goes on."
        )
    })();
    Ok(written?)
}

#[cfg(test)]
mod tests {
    use super::super::Args;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn is_taken(args: &str) -> bool {
        let args = format!("backstop --to /there --network regtest {args}");
        Cli::try_parse_from(args.split(' ')).is_ok_and(|cli| cli.args.to.is_absolute())
    }

    #[test]
    fn a_look_takes_a_secret_and_a_server_or_a_directory_that_has_both() {
        assert!(is_taken("--at 5 --lightning-dir /here"));
        assert!(is_taken(
            "--at 2026-11-22T17:00:00Z --server http://s --recovery-key"
        ));
        assert!(!is_taken("--at 5 --server http://s"));
        assert!(!is_taken("--at 5 --recovery-key"));
        assert!(!is_taken("--at 5 --lightning-dir /here --server http://s"));
        assert!(!is_taken("--at 5 --lightning-dir /here --mnemonic"));
        assert!(!is_taken("--at tuesday --lightning-dir /here"));
    }

    #[test]
    fn what_may_be_started_never_comes_from_a_directory_that_is_set_up() {
        assert!(is_taken("--server http://s --recovery-key"));
        assert!(is_taken("--server http://s --recovery-key --scb-only"));
        assert!(!is_taken("--lightning-dir /here"));
        assert!(!is_taken("--lightning-dir /here --scb-only"));
        assert!(!is_taken("--at 5 --server http://s --recovery-key --scb-only"));
    }
}
