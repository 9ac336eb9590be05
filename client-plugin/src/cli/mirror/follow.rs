//! Following: one server after the other until one answers, then each record as it comes.

use crate::{
    cli::stop,
    directory::ServerConfig,
    keys::{KeyFile, Keys},
    mirror::{Config, Mirror, MirrorError, Pull, Standby, State},
    node::Ambient,
    remote::{Identity, Session},
};
use backstop_protocol::{clock::UnixMillis, session::IdentitySecret};
use std::{
    io::{self, Write as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

/// Pauses between attempts, from the first to the longest.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_mins(1)];
/// How often the server is asked for more than the next record, at least.
const LOOK_EVERY_MS: u64 = 60_000;
/// How often what is over is let go of.
const SWEEP_EVERY_MS: u64 = 3_600_000;

/// Follows until told to stop, or with `once` until it has caught up.
pub(super) fn run(
    dir: &Path,
    config: Config,
    access: IdentitySecret,
    standby: Option<KeyFile>,
    once: bool,
    ambient: &Ambient,
) -> anyhow::Result<()> {
    let identity = Identity {
        keys: Arc::new(access),
        node: config.node,
        network: config.network,
        grant: Some(config.grant.clone()),
        invite: None,
    };
    let mut follower = Follower {
        mirror: Mirror::open_or_create(dir, config)?,
        identity: Arc::new(identity),
        standby: standby.map(|file| Standby::new(dir, Keys::derive(&file.root))),
        swept_at: None,
        ambient,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(async {
        if once {
            return follower.once().await;
        }
        tokio::select! {
            () = follower.forever() => Ok(()),
            () = stop::asked() => Ok(()),
        }
    });
    if let Some(standby) = follower.standby {
        standby.settle()?;
    }
    Ok(done?)
}

struct Follower<'a> {
    mirror: Mirror,
    identity: Arc<Identity>,
    standby: Option<Standby>,
    swept_at: Option<UnixMillis>,
    ambient: &'a Ambient,
}

impl Follower<'_> {
    /// Catches up with the first server that lets it.
    async fn once(&mut self) -> Result<(), MirrorError> {
        let mut last = None;
        for server in self.mirror.config().servers.clone() {
            match self.catch_up(&server).await {
                Ok((_, state)) => {
                    say(&caught_up(&server.url, &state));
                    return Ok(());
                }
                Err(error) => last = Some(error),
            }
        }
        last.map_or(Ok(()), Err)
    }

    /// Goes on whatever happens: what a mirror holds is never worse for it.
    async fn forever(&mut self) {
        let mut pause = PAUSES[0];
        loop {
            for server in self.mirror.config().servers.clone() {
                match self.stay(&server).await {
                    Ok(()) => pause = PAUSES[0],
                    Err((error, followed)) => {
                        if followed {
                            pause = PAUSES[0];
                        }
                        let seconds = pause.as_secs();
                        let room = if error.is_full() {
                            " Make room on this disk: nothing was lost, and it goes on by itself then."
                        } else {
                            ""
                        };
                        warn(&format!("{error}.{room} Trying again in {seconds} s"));
                    }
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES[1]);
            }
        }
    }

    /// Follows one server until something goes wrong; whether it had caught up before that.
    async fn stay(&mut self, server: &ServerConfig) -> Result<(), (MirrorError, bool)> {
        let (session, state) = self.catch_up(server).await.map_err(|error| (error, false))?;
        say(&caught_up(&server.url, &state));
        let mut looked_at = self.ambient.clock.now();
        loop {
            let step = async {
                let clock = self.ambient.clock.clone();
                let pull = Pull::new(&self.mirror, &session, &*clock);
                let due = pull.next().await?;
                // A node that never rests has new snapshots and files too.
                if due || clock.now().millis_since(looked_at) >= LOOK_EVERY_MS {
                    pull.catch_up().await?;
                    looked_at = clock.now();
                }
                self.after().await
            };
            step.await.map_err(|error| (error, true))?;
        }
    }

    async fn catch_up(&mut self, server: &ServerConfig) -> Result<(Session, State), MirrorError> {
        let (clock, rng) = (self.ambient.clock.clone(), self.ambient.rng.clone());
        let (session, _) = Session::open(
            &server.url,
            &self.mirror.config().connect(),
            server.key,
            self.identity.clone(),
            None,
            clock.clone(),
            rng,
        )
        .await?;
        let state = Pull::new(&self.mirror, &session, &*clock).catch_up().await?;
        self.after().await?;
        Ok((session, state))
    }

    /// What follows from what came.
    async fn after(&mut self) -> Result<(), MirrorError> {
        if let Some(standby) = &mut self.standby {
            standby.follow(&self.mirror).await?;
        }
        let now = self.ambient.clock.now();
        if self
            .swept_at
            .is_none_or(|at| now.millis_since(at) >= SWEEP_EVERY_MS)
        {
            self.mirror.sweep(now)?;
            self.swept_at = Some(now);
        }
        Ok(())
    }
}

fn caught_up(url: &str, state: &State) -> String {
    format!(
        "{url}: caught up, record {} of epoch {}; following",
        state.head.seq, state.head.epoch
    )
}

/// A line for whoever watches; nobody has to.
fn say(line: &str) {
    let mut out = io::stdout();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn warn(line: &str) {
    let _ = writeln!(io::stderr(), "backstop: {line}");
}
