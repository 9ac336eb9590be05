//! `backstop-server serve`: the server, and the signals it hears.

use super::{
    Command,
    layers::{self, Layered},
    log::Log,
    print,
    settings::Settings,
};
use crate::{
    Certificates, Config, Server,
    notify::{Notify, Word},
    packs::BucketUrl,
};
use backstop_protocol::clock::SystemClock;
use getrandom::{SysRng, rand_core::UnwrapErr};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::{
    collections::BTreeMap, ffi::OsString, fmt::Write as _, net::SocketAddr, path::Path, sync::Arc,
    time::Duration,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

/// How often the certificate's files are looked at.
const LOOK: Duration = Duration::from_mins(1);
/// Open files beside the connections: the database's, the packs', the listeners.
const OTHER_FILES: u64 = 256;

/// The signals, from before anything starts, so that none is missed.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

pub(super) async fn run(settings: &Settings, mut reload: Reload) -> anyhow::Result<()> {
    let mut signals = Signals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        hangup: signal(SignalKind::hangup())?,
    };
    let mut config = settings.config()?;
    fit_connections(&mut config);
    let (data, tls) = (config.data.clone(), config.tls.is_some());
    let bucket = config.packs.as_ref().map(|bucket| bucket.url.clone());
    let server = Server::bind(config, Arc::new(SystemClock), &mut UnwrapErr(SysRng)).await?;
    print(&greeting(&server, &data, bucket.as_ref(), tls));
    reload.certificates = server.certificates();
    let notify = Notify::from_environment();
    notify.say(Word::Ready);
    let alive = tokio::spawn(notify.clone().keep_saying());
    let shutdown = async move {
        let name = signals.wait(&mut reload, &notify).await;
        notify.say(Word::Stopping);
        tracing::info!("{name}: finishing what is under way");
    };
    server.run(shutdown).await;
    alive.abort();
    tracing::info!("stopped");
    Ok(())
}

impl Signals {
    /// Until it is time to stop; says which signal said so.
    async fn wait(&mut self, reload: &mut Reload, notify: &Notify) -> &'static str {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => {
                    notify.say(Word::Reloading);
                    reload.everything();
                    notify.say(Word::Ready);
                }
                _ = look.tick() => reload.changed_certificate(),
            }
        }
    }
}

/// What can change while the server runs.
pub(super) struct Reload {
    arguments: Vec<OsString>,
    values: BTreeMap<String, Vec<OsString>>,
    log: Log,
    certificates: Option<Arc<Certificates>>,
}

impl Reload {
    /// `values` are the settings that the server starts with.
    pub(super) fn new(arguments: Vec<OsString>, values: BTreeMap<String, Vec<OsString>>, log: Log) -> Self {
        Self {
            arguments,
            values,
            log,
            certificates: None,
        }
    }

    fn everything(&mut self) {
        match layers::read(&self.arguments) {
            Ok(layered) => self.settings(&layered),
            Err(error) => tracing::error!("SIGHUP: the configuration stays as it was: {error}"),
        }
        let Some(certificates) = &self.certificates else {
            return;
        };
        match certificates.reload() {
            Ok(()) => tracing::info!("SIGHUP: the certificate was read again"),
            Err(error) => tracing::error!("SIGHUP: the old certificate stays in use: {error}"),
        }
    }

    fn settings(&mut self, fresh: &Layered) {
        let Command::Serve(settings) = &fresh.cli.command else {
            return;
        };
        if fresh.values.get("log") != self.values.get("log") {
            self.log.change(&settings.log);
            tracing::info!("SIGHUP: the log's filter is {} now", settings.log);
            if let Some(log) = fresh.values.get("log") {
                self.values.insert("log".to_owned(), log.clone());
            }
        }
        let names = self.values.keys().chain(fresh.values.keys());
        let mut changed: Vec<_> = names
            .filter(|name| self.values.get(*name) != fresh.values.get(*name))
            .map(|name| name.replace('_', "-"))
            .collect();
        changed.sort_unstable();
        changed.dedup();
        if !changed.is_empty() {
            tracing::warn!(
                "SIGHUP: restart the server for what changed of {}; until then it goes on as it was",
                changed.join(", ")
            );
        }
    }

    fn changed_certificate(&self) {
        let Some(certificates) = &self.certificates else {
            return;
        };
        match certificates.reload_if_changed() {
            Ok(false) => {}
            Ok(true) => tracing::info!("the certificate changed and was read again"),
            Err(error) => tracing::error!("the old certificate stays in use: {error}"),
        }
    }
}

/// Lets the process open as many files as it may at all, and the configuration no more connections than that.
fn fit_connections(config: &mut Config) {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    let files = if soft == hard || setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        hard
    } else {
        soft
    };
    let room = usize::try_from(files.saturating_sub(OTHER_FILES).max(1)).unwrap_or(usize::MAX);
    if config.limits.connections > room {
        tracing::warn!(
            "this process may open {files} files, so it takes {room} connections instead of {}; for more, raise LimitNOFILE",
            config.limits.connections
        );
        config.limits.connections = room;
    }
}

/// What a person does next.
fn greeting(server: &Server, data: &Path, bucket: Option<&BucketUrl>, tls: bool) -> String {
    let addr = server.local_addr();
    let (key, data) = (server.server_key(), data.display());
    let scheme = if tls { "https" } else { "http" };
    let mut text = format!(
        "backstop-server {}
data in {data}
server key {key}
listening on {scheme}://{addr}
",
        env!("CARGO_PKG_VERSION"),
    );
    // Writing to a string does not fail.
    if let Some(bucket) = bucket {
        let _ = writeln!(text, "packs in {bucket}");
    }
    if let Some(metrics) = server.metrics_addr() {
        let _ = writeln!(text, "metrics on http://{metrics}/metrics");
    }
    let _ = write!(
        text,
        "
To back up a node, run on its machine, as the user that runs lightningd:

    backstop setup --server {scheme}://{}

with --lightning-dir and --network where lightning-cli needs them too, and compare the server key that it shows with
the one above. Ctrl-C stops the server; nothing is lost.
",
        reachable(addr, tls),
    );
    if !tls && !addr.ip().is_loopback() {
        text.push_str(
            "
Others can reach this address, and it speaks plain HTTP, as --plain-http allows. Whatever is sent here is authenticated and
the backups are encrypted, but anybody on the way sees which nodes are backed up here, when, and how much. Let none but a
proxy with TLS or an onion service reach it.
",
        );
    }
    text
}

/// The address as another machine writes it.
fn reachable(addr: SocketAddr, tls: bool) -> String {
    if tls {
        format!("NAME-IN-THE-CERTIFICATE:{}", addr.port())
    } else if addr.ip().is_unspecified() {
        format!("THIS-MACHINE:{}", addr.port())
    } else {
        addr.to_string()
    }
}
