//! The thread's loop: what it does with what it hears.

use super::{
    Event, Shared, Start, proof,
    servers::{self, Servers},
    trouble::Trouble,
};
use crate::{
    node::Node,
    plugin::stdio::{self, Level},
    record::Content,
    remote::Session,
    restore::{BadChain, Patient},
    shadow::{self, Shadow},
    snapshot,
};
use backstop_protocol::{head::Head, id::TimelineId, session::WriterClaim};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};

/// How often the shadow's position is written down.
const SAVE_EVERY: Duration = Duration::from_secs(30);
/// The first pause after something went wrong; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_mins(30);
/// How much this thread gives way to all others.
const NICE: i32 = 10;

/// The thread's own.
pub(super) struct Worker {
    pub(super) node: Arc<Node>,
    pub(super) claim: Option<WriterClaim>,
    pub(super) timeline: TimelineId,
    events: mpsc::UnboundedReceiver<Event>,
    pub(super) shared: Arc<Shared>,
    /// Where the shadow begins, until it has begun.
    start: Option<Start>,
    /// The backup was found wrong in this run, and no roll-up has replaced it yet: the shadow is the truth, the backup
    /// is not.
    pub(super) unproved: bool,
    /// The shadow was made of the backup since it was last taken up: what does not fit it is the backup's fault.
    rebuilt: bool,
    /// Until when no roll-up is tried, after one that failed.
    pub(super) put_off: Option<Instant>,
    pub(super) pause: Duration,
}

impl Worker {
    pub(super) fn new(
        node: Arc<Node>,
        claim: Option<WriterClaim>,
        timeline: TimelineId,
        events: mpsc::UnboundedReceiver<Event>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            node,
            claim,
            timeline,
            events,
            shared,
            start: None,
            unproved: false,
            rebuilt: false,
            put_off: None,
            pause: FIRST_PAUSE,
        }
    }

    /// Runs until the hook's end is gone.
    pub(super) fn run(mut self, start: Start) {
        // Where the system does not allow it, the thread is as quick as others.
        let _ = rustix::process::nice(NICE);
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                stdio::log(
                    Level::Warn,
                    &format!("No roll-ups in this run: {error}. The backup itself goes on."),
                );
                return;
            }
        };
        self.start = Some(start);
        runtime.block_on(self.work());
    }

    async fn work(&mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            let ended = self.follow().await;
            // Whatever it was in the middle of may be asked for again.
            self.put_off = None;
            self.shared.rolling.store(false, Ordering::Relaxed);
            let Err(trouble) = ended else { break };
            if trouble.is_end() {
                break;
            }
            if began.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            trouble.tell(&self.node.directory, pause);
            if !trouble.spares_shadow() {
                self.forget_start();
                if let Err(error) = shadow::clear(&self.node.directory.shadow()) {
                    stdio::log(Level::Warn, &error.to_string());
                }
            }
            if trouble.lasts() {
                pause = Duration::MAX;
            }
            if !self.wait(pause).await {
                break;
            }
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
        self.forget_start();
    }

    /// Lets go of where the shadow was to begin, and of the copy that came with it: it holds the node's secrets.
    fn forget_start(&mut self) {
        let copy = match self.start.take() {
            Some(Start::Copy { file, .. }) => file,
            Some(Start::Continue {
                proof: Some(proof), ..
            }) => proof.taken,
            _ => return,
        };
        // What cannot be removed now is overwritten by the next copy.
        let _ = snapshot::copy::remove(&copy);
    }

    /// Waits, and lets go of what is handed over meanwhile. `false`: the run ends.
    async fn wait(&mut self, pause: Duration) -> bool {
        let over = tokio::time::sleep(pause);
        tokio::pin!(over);
        loop {
            let event = tokio::select! {
                () = &mut over => return true,
                event = self.events.recv() => event,
            };
            match event {
                None | Some(Event::Settle(_)) => return false,
                Some(Event::Record { cost, .. }) => self.let_go(cost),
                Some(Event::RollUp { .. }) => self.shared.rolling.store(false, Ordering::Relaxed),
            }
        }
    }

    fn let_go(&self, cost: usize) {
        self.shared.queued.fetch_sub(cost, Ordering::Relaxed);
    }

    /// Follows the log. `Ok`: the run ends.
    async fn follow(&mut self) -> Result<(), Trouble> {
        let servers = servers::open(&self.node, self.claim).await?;
        self.rebuilt = false;
        match self.follow_over(&servers).await {
            Err(trouble) if self.rebuilt && trouble.blames_backup() => {
                self.unproved = true;
                Err(proof::tell_unusable_backup(&servers, trouble).await)
            }
            ended => ended,
        }
    }

    async fn follow_over(&mut self, servers: &Servers) -> Result<(), Trouble> {
        let session = &servers.newest;
        let mut shadow = Some(self.begin(servers).await?);
        self.start = None;
        let mut save = tokio::time::interval(SAVE_EVERY);
        save.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while let Some(present) = shadow.as_mut() {
            let event = tokio::select! {
                event = self.events.recv() => event,
                _ = save.tick() => {
                    // What is not noted is read again after a kill.
                    let _ = present.save();
                    self.end_pause();
                    continue;
                }
            };
            match event {
                None => break,
                Some(Event::Settle(done)) => {
                    if let Some(shadow) = shadow.take() {
                        shadow.settle()?;
                    }
                    // Where nobody waits any more, nobody needs to know.
                    let _ = done.send(());
                }
                Some(Event::Record {
                    head,
                    content,
                    sealed,
                    cost,
                }) => {
                    self.let_go(cost);
                    if matches!(content, Content::Gap(_)) || head.seq > present.position().seq + 1 {
                        self.catch_up(session, present, head.seq).await?;
                    } else if head.seq == present.position().seq + 1 {
                        present.take(head, &content, &sealed)?;
                    }
                }
                Some(Event::RollUp { head }) => {
                    self.catch_up_to(session, present, head).await?;
                    if let Some(present) = shadow.take() {
                        shadow = Some(self.roll_up(servers, present).await?);
                    }
                }
            }
        }
        Ok(())
    }

    /// A roll-up that was put off may be asked for again.
    fn end_pause(&mut self) {
        if self.put_off.is_some_and(|until| Instant::now() >= until) {
            self.put_off = None;
            self.shared.rolling.store(false, Ordering::Relaxed);
        }
    }

    pub(super) async fn catch_up(
        &self,
        session: &Session,
        shadow: &mut Shadow,
        until: u64,
    ) -> Result<(), Trouble> {
        let server = Patient::new(session, Patient::<Session>::PAUSES);
        Ok(shadow::catch_up(shadow, &server, &self.node.keys.record, until).await?)
    }

    /// The same to a record that the hook named: the server must not have another in its place.
    async fn catch_up_to(&self, session: &Session, shadow: &mut Shadow, head: Head) -> Result<(), Trouble> {
        self.catch_up(session, shadow, head.seq).await?;
        let found = shadow.position().hash;
        if shadow.position().seq == head.seq && found != head.hash {
            let expected = head.hash;
            return Err(Trouble::Shadow(BadChain::Head { expected, found }.into()));
        }
        Ok(())
    }

    /// The shadow, from wherever it can be had.
    async fn begin(&mut self, servers: &Servers) -> Result<Shadow, Trouble> {
        let session = &servers.newest;
        let dir = self.node.directory.shadow();
        let head = match &self.start {
            Some(Start::Empty) => return Ok(Shadow::empty(&dir, self.timeline)?),
            Some(Start::Copy { file, base, policy }) => {
                return Ok(Shadow::adopt(&dir, file, *base, policy.clone())?);
            }
            Some(Start::Continue { head, .. }) => Some(*head),
            None => None,
        };
        let shadow = match Shadow::open(&dir, self.timeline) {
            Ok(shadow) => shadow,
            Err(error) if error.is_full() => return Err(error.into()),
            // Whatever is wrong with it, it is made anew.
            Err(_) => None,
        };
        let mut shadow = match shadow {
            Some(shadow) => shadow,
            None => self.rebuild(session).await?,
        };
        let Some(head) = head else { return Ok(shadow) };
        if let Err(trouble) = self.catch_up_to(session, &mut shadow, head).await {
            if trouble.spares_shadow() {
                return Err(trouble);
            }
            // An old shadow may be damaged, or older than the log: one that is made of the backup now is neither.
            drop(shadow);
            shadow = self.rebuild(session).await?;
            if let Err(trouble) = self.catch_up_to(session, &mut shadow, head).await {
                return match self.proof_copy() {
                    Some(copy) if trouble.blames_backup() => {
                        proof::replace(self, servers, shadow, &copy, trouble).await
                    }
                    _ => Err(trouble),
                };
            }
        }
        match self.proof_copy() {
            Some(copy) => proof::compare(self, servers, shadow, &copy).await,
            None => Ok(shadow),
        }
    }

    fn proof_copy(&self) -> Option<proof::ProofCopy> {
        match &self.start {
            Some(Start::Continue { proof, .. }) => proof.clone(),
            _ => None,
        }
    }

    async fn rebuild(&mut self, session: &Session) -> Result<Shadow, Trouble> {
        if self.unproved {
            return Err(Trouble::CopyLost);
        }
        self.rebuilt = true;
        let server = Patient::new(session, Patient::<Session>::PAUSES);
        let account = session.account().await?;
        let dir = self.node.directory.shadow();
        Ok(shadow::rebuild(&dir, &server, &self.node.keys, &account, self.timeline).await?)
    }
}
