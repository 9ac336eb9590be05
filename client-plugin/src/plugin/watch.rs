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
    remote::RemoteError,
};
use backstop_protocol::problem::{Problem, ProblemCode};
use std::{sync::Arc, time::Duration};
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
            loop {
                tokio::time::sleep(ASK_EVERY).await;
                // A server that does not answer is no reason to stop: the next batch waits for it anyway.
                let taken = match session.account().await {
                    Ok(account) if account.epoch > epoch => {
                        let mut problem = Problem::new(ProblemCode::Fenced, "");
                        problem.since = account.writer_since;
                        RemoteError::Refused {
                            url: session.url().to_owned(),
                            problem: Box::new(problem),
                        }
                    }
                    Err(error)
                        if matches!(
                            error.code(),
                            Some(ProblemCode::OtherInstance | ProblemCode::EpochMismatch)
                        ) =>
                    {
                        error
                    }
                    _ => continue,
                };
                let _ = sender.send(Halted::refused(&taken, &network_dir));
                return;
            }
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
    let important = rpc.listconfigs("important-plugin")?;
    if !important
        .iter()
        .any(|path| own.is_some() && std::fs::canonicalize(path).ok() == own)
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
