//! What is watched beside the hook: whether this run is still the writer, and whether lightningd would notice if this
//! plugin died.

use super::{
    halt::Halted,
    message::Configuration,
    servers::Servers,
    stdio::{self, Level},
    writer::Writer,
};
use crate::{
    cln::rpc::{Rpc, RpcError},
    companion::is_companion,
    remote::RemoteError,
};
use backstop_protocol::{
    clock::UnixMillis,
    problem::{Problem, ProblemCode},
};
use std::{os::unix::fs::MetadataExt, path::Path, sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// How often an idle writer asks whether it still is one. A machine that was taken over notices within a minute (I7).
const ASK_EVERY: Duration = Duration::from_secs(20);

/// Tells when another machine took the node over.
pub(super) struct Fenced {
    sender: mpsc::UnboundedSender<Halted>,
    receiver: mpsc::UnboundedReceiver<Halted>,
    watching: bool,
}

impl Default for Fenced {
    fn default() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self {
            sender,
            receiver,
            watching: false,
        }
    }
}

impl Fenced {
    /// Starts to watch, once.
    pub(super) fn watch(&mut self, writer: &Writer, network_dir: &std::path::Path) {
        if std::mem::replace(&mut self.watching, true) {
            return;
        }
        if let Some(spool) = &writer.spool {
            let (sender, end) = (self.sender.clone(), spool.end());
            tokio::spawn(async move {
                let _ = sender.send(end.await);
            });
        }
        let (sender, network_dir, epoch) = (self.sender.clone(), network_dir.to_owned(), writer.epoch);
        let session = match &writer.servers {
            Servers::One(session) => Arc::clone(session),
            // Each lane asks its own server.
            Servers::Several(several) => {
                let fence = several.fence();
                tokio::spawn(async move {
                    let _ = sender.send(Halted::refused(&fence.await, &network_dir));
                });
                return;
            }
        };
        tokio::spawn(async move {
            let url = session.url().to_owned();
            let ask = || {
                let session = Arc::clone(&session);
                async move {
                    let account = session.account().await?;
                    Ok((account.epoch, account.writer_since))
                }
            };
            let taken = taken(ASK_EVERY, epoch, url, ask).await;
            let _ = sender.send(Halted::refused(&taken, &network_dir));
        });
    }

    /// Waits until it happened.
    pub(super) async fn happened(&mut self) -> Halted {
        match self.receiver.recv().await {
            Some(halted) => halted,
            // `self` holds a sender: the channel stays open.
            None => std::future::pending().await,
        }
    }
}

/// Asks the server again and again for its epoch and since when it has that, with so long a pause before each question; returns once
/// another run is the writer of `epoch`. A server that does not answer is no reason to stop: the next batch waits for it anyway.
async fn taken<A>(every: Duration, epoch: u64, url: String, ask: impl Fn() -> A) -> RemoteError
where
    A: Future<Output = Result<(u64, Option<UnixMillis>), RemoteError>>,
{
    loop {
        tokio::time::sleep(every).await;
        match ask().await {
            Ok((theirs, since)) if theirs > epoch => {
                let mut problem = Problem::new(ProblemCode::Fenced, "");
                problem.since = since;
                return RemoteError::Refused {
                    url,
                    problem: Box::new(problem),
                };
            }
            Err(error)
                if matches!(
                    error.code(),
                    Some(ProblemCode::OtherInstance | ProblemCode::EpochMismatch)
                ) =>
            {
                return error;
            }
            _ => {}
        }
    }
}

/// Says in lightningd's log what leaves the node unprotected although this plugin runs. Asks lightningd, on a thread
/// of its own: no answer to lightningd may wait for it.
pub(super) async fn check_protection(configuration: Configuration) {
    let asked = tokio::task::spawn_blocking(move || {
        let rpc = Rpc::new(&configuration.network_dir.join(&configuration.rpc_file));
        unprotected(&rpc)
    });
    match asked.await {
        Ok(Ok(found)) => found.iter().for_each(|message| stdio::log(Level::Error, message)),
        Ok(Err(error)) => {
            stdio::log(
                Level::Debug,
                &format!("whether this plugin is marked important could not be asked: {error}"),
            );
        }
        Err(_) => {}
    }
}

/// What is wrong with the node's configuration, each in a sentence for its operator.
pub(crate) fn unprotected(rpc: &Rpc) -> Result<Vec<String>, RpcError> {
    let mut found = Vec::new();
    let own = std::env::current_exe().ok();
    let file = |path: &Path| {
        std::fs::metadata(path)
            .ok()
            .map(|found| (found.dev(), found.ino()))
    };
    let own_file = own.as_deref().and_then(file);
    let important = rpc.listconfigs("important-plugin")?;
    if !important
        .iter()
        .map(Path::new)
        .any(|path| own_file.is_some() && file(path) == own_file && !is_companion(path))
    {
        let own = own.unwrap_or_default();
        found.push(format!(
            "backstop is not marked important: if it dies, lightningd goes on without a backup. Put this line into the \
             node's config file and restart: important-plugin={}",
            own.display()
        ));
    }
    if rpc
        .listconfigs("wallet")?
        .iter()
        .any(|wallet| wallet.starts_with("postgres:"))
    {
        found.push(
            "This node keeps its database in PostgreSQL, for which lightningd tells no plugin what it writes: nothing is \
             backed up. Use PostgreSQL's own synchronous replication, or SQLite."
                .to_owned(),
        );
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quorum::Pace;
    use std::{cell::Cell, path::Path};

    /// Half a minute is left for a question that a dead connection holds up.
    const LATEST: Duration = Duration::from_secs(30);

    #[test]
    fn every_writer_asks_often_enough_to_notice_within_a_minute() {
        assert!(ASK_EVERY <= LATEST);
        assert!(Pace::default().ask_every <= LATEST);
    }

    #[test]
    fn an_idle_machine_goes_on_while_the_server_is_silent_and_stops_once_it_was_taken_over() {
        let asked = Cell::new(0_u32);
        let since = Some(UnixMillis(1_795_356_187_000));
        let ask = || {
            asked.set(asked.get() + 1);
            let answer = match asked.get() {
                2 => Err(RemoteError::Unreachable {
                    url: "http://s".to_owned(),
                    reason: "it is away".to_owned(),
                }),
                ..4 => Ok((7, since)),
                _ => Ok((8, since)),
            };
            std::future::ready(answer)
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let refusal =
            runtime
                .unwrap()
                .block_on(taken(Duration::from_micros(1), 7, "http://s".to_owned(), ask));
        assert_eq!(asked.get(), 4, "it stops at the first answer that says so");
        let text = Halted::refused(&refusal, Path::new("/n/regtest")).to_string();
        assert!(
            text.contains("took this node over at 2026-11-22 14:03:07 UTC"),
            "{text}"
        );
    }
}
