//! One roll-up: the shadow stands still, becomes a snapshot, and goes on.

use super::{
    servers::{self, Servers},
    trouble::{Trouble, is_fenced},
    worker::Worker,
};
use crate::{
    plugin::stdio::{self, Level},
    remote::{RemoteError, Session},
    restore::Patient,
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
        let mut outcome = None;
        // One may have come back since.
        let again = if servers.all().count() < self.node.config.servers.len() {
            servers::open(&self.node, self.claim).await.ok()
        } else {
            None
        };
        let path = shadow::known_chunks(&self.node.directory.shadow());
        let known = KnownChunks::open(&path);
        let snapshot = SnapshotId(self.node.ambient.rng.array());
        for (session, at) in again.as_ref().unwrap_or(servers).all().zip(0_u32..) {
            let notes = frozen.database().with_extension(at.to_string());
            let sent = self
                .send(session, frozen, snapshot, (known.as_ref(), &notes))
                .await;
            match (&mut outcome, sent) {
                (Some(Ok(_)), Err(error)) => tell_left_out(&error),
                (Some(Err(error)), Ok(uploaded)) => {
                    tell_left_out(error);
                    outcome = Some(Ok(uploaded));
                }
                (Some(_), _) => {}
                (None, sent) => outcome = Some(sent),
            }
        }
        let uploaded = outcome.unwrap_or(Err(UploadError::Remote(RemoteError::Key)))?;
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
        session: &Session,
        frozen: &Frozen,
        snapshot: SnapshotId,
        (known, notes): (Option<&KnownChunks>, &Path),
    ) -> Result<Uploaded, UploadError> {
        let (Some(base), Some(data_version)) = (frozen.position().base(), frozen.data_version()) else {
            return Err(UploadError::Io(std::io::Error::other("nothing was written yet")));
        };
        // The server may have dropped the snapshot that this machine knows.
        let newest = session.account().await?.snapshot;
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
        let server = Patient::new(session, Patient::<Session>::PAUSES);
        upload(
            &server,
            &self.node.keys,
            &plan,
            &self.node.ambient.rng,
            &mut |_, _| {},
        )
        .await
    }
}

fn tell_left_out(error: &UploadError) {
    stdio::log(
        Level::Warn,
        &format!("One of the servers did not take the new snapshot: {error}. It asks for the next one"),
    );
}
