//! One roll-up: the shadow stands still, becomes a snapshot, and goes on.

use super::{
    servers::{self, Servers},
    trouble::{Trouble, is_fenced},
    worker::Worker,
};
use crate::{
    plugin::stdio::{self, Level},
    remote::{RemoteError, Session},
    restore::{BackupServer as _, Patient},
    shadow::{self, Frozen, Shadow, ShadowError},
    snapshot::{KnownChunks, Pace, Plan, UploadError, Uploaded, upload},
};
use backstop_protocol::id::SnapshotId;
use std::{path::Path, sync::atomic::Ordering, time::Duration};
use tokio::time::Instant;

/// The first pause after a roll-up that failed; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_mins(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

impl Worker {
    /// Makes a snapshot of the shadow as it stands. What goes wrong with that is told here and tried again later: the
    /// snapshot before and the log above it are untouched (I8).
    pub(super) async fn roll_up(&mut self, servers: &Servers, shadow: Shadow) -> Result<Shadow, Trouble> {
        if !shadow.replay().foreign_keys().map_err(ShadowError::from)? {
            // Between lightningd's two PRAGMAs: a restore that began here would go on with the wrong setting.
            self.shared.rolling.store(false, Ordering::Relaxed);
            return Ok(shadow);
        }
        let frozen = shadow.freeze()?;
        let began = Instant::now();
        let outcome = self.send_to_all(servers, &frozen).await;
        let shadow = frozen.thaw()?;
        match outcome {
            Ok(uploaded) => {
                self.pause = FIRST_PAUSE;
                self.unproved = false;
                self.shared.wanted.store(false, Ordering::Relaxed);
                self.shared.made.store(true, Ordering::Relaxed);
                self.shared.rolling.store(false, Ordering::Relaxed);
                stdio::log(
                    Level::Info,
                    &format!(
                        "Rolled up: the new snapshot after record {} is complete and proved on the server; {} of its {} chunks \
                         were sent, {} bytes, in {} s",
                        uploaded.info.base_seq,
                        uploaded.sent,
                        uploaded.chunks,
                        uploaded.sent_bytes,
                        began.elapsed().as_secs()
                    ),
                );
                Ok(shadow)
            }
            Err(UploadError::Remote(error)) if is_fenced(&error) => Err(error.into()),
            Err(error) => {
                self.put_roll_up_off(&error);
                Ok(shadow)
            }
        }
    }

    fn put_roll_up_off(&mut self, error: &UploadError) {
        let pause = self.pause.clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.put_off = Some(Instant::now() + pause);
        self.pause = pause * 2;
        let level = match error {
            UploadError::Unproved(_) => Level::Error,
            _ => Level::Warn,
        };
        stdio::log(
            level,
            &format!(
                "The roll-up was put off for {} s: {error}. The backup goes on: the snapshot before it and the log restore \
                 as they did.",
                pause.as_secs()
            ),
        );
    }

    /// Sends it to every server under one name: those that lack nothing of it take the list of its chunks alone, and the next one's
    /// list is a difference to it at all of them. What one of several does not take is told; it asks again.
    async fn send_to_all(&self, servers: &Servers, frozen: &Frozen) -> Result<Uploaded, UploadError> {
        // One may have come back since.
        let again = if servers.all().count() < self.node.config.servers.len() {
            servers::open(&self.node, self.claim).await.ok()
        } else {
            None
        };
        let path = shadow::known_chunks(&self.node.directory.shadow());
        let known = KnownChunks::open(&path);
        let snapshot = SnapshotId(self.node.ambient.rng.array());
        let notes = |at: u32| frozen.database().with_extension(at.to_string());
        let mut waited_for: Vec<_> = again.as_ref().unwrap_or(servers).all().zip(0_u32..).collect();
        let mut outcomes = Vec::new();
        if waited_for.len() > 1 {
            // One that went away must not keep the others waiting: it is waited for once they have it.
            for (session, at) in std::mem::take(&mut waited_for) {
                let server = Patient::new(session, &[]);
                match self
                    .send(&server, frozen, snapshot, (known.as_ref(), &notes(at)))
                    .await
                {
                    Err(UploadError::Remote(error)) if error.is_passing() => waited_for.push((session, at)),
                    outcome => outcomes.push(outcome),
                }
            }
        }
        for (session, at) in waited_for {
            let server = Patient::new(session, Patient::<Session>::PAUSES);
            outcomes.push(
                self.send(&server, frozen, snapshot, (known.as_ref(), &notes(at)))
                    .await,
            );
        }
        let uploaded = first_uploaded(outcomes)?;
        if let Err(error) = KnownChunks::write(&path, snapshot, &uploaded.index) {
            stdio::log(
                Level::Warn,
                &format!("{error}; the next roll-up sends its list of chunks whole"),
            );
        }
        Ok(uploaded)
    }

    /// Sends it to one server; `known` are the chunks of the newest snapshot that this machine knows, and `notes` is as in [`Plan`].
    async fn send(
        &self,
        server: &Patient<'_, Session>,
        frozen: &Frozen,
        snapshot: SnapshotId,
        (known, notes): (Option<&KnownChunks>, &Path),
    ) -> Result<Uploaded, UploadError> {
        let (Some(base), Some(data_version)) = (frozen.position().base(), frozen.data_version()) else {
            return Err(UploadError::Io(std::io::Error::other("nothing was written yet")));
        };
        // The server may have dropped the snapshot that this machine knows.
        let newest = server.account().await?.snapshot;
        let known = known.filter(|known| newest.is_some_and(|newest| newest.snapshot == known.snapshot));
        let database = frozen.database();
        let plan = Plan {
            database: &database,
            notes,
            base,
            snapshot,
            data_version,
            policy: frozen.position().policy().map(<[u8]>::to_vec),
            parent: known,
            pace: Pace::Background,
        };
        upload(
            server,
            &self.node.keys,
            &plan,
            &self.node.ambient.rng,
            &mut |_, _| {},
        )
        .await
    }
}

/// What one of the servers took, where any did; then what the others did not is told.
fn first_uploaded(outcomes: Vec<Result<Uploaded, UploadError>>) -> Result<Uploaded, UploadError> {
    let mut failed = Vec::new();
    let mut uploaded = None;
    for outcome in outcomes {
        match outcome {
            Ok(done) => uploaded = uploaded.or(Some(done)),
            Err(error) => failed.push(error),
        }
    }
    if let Some(uploaded) = uploaded {
        failed.iter().for_each(tell_left_out);
        return Ok(uploaded);
    }
    Err(failed
        .into_iter()
        .next()
        .unwrap_or(UploadError::Remote(RemoteError::Key)))
}

fn tell_left_out(error: &UploadError) {
    stdio::log(
        Level::Warn,
        &format!("One of the servers did not take the new snapshot: {error}. It asks for the next one"),
    );
}
