//! The warm standby: the node's database as it stands now, kept beside the mirror where the key is there too. It is the
//! plugin's shadow, made of what the mirror holds and checked on the way as a restore checks.

use super::{Mirror, MirrorError};
use crate::{
    keys::Keys,
    shadow::{self, Shadow, ShadowError},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

const DIR: &str = "standby";

/// A standby, open.
pub struct Standby {
    dir: PathBuf,
    keys: Arc<Keys>,
    shadow: Option<Shadow>,
}

impl Standby {
    /// In a mirror's directory. What is there is looked at when it is first brought forward.
    #[must_use]
    pub fn new(mirror: &Path, keys: Keys) -> Self {
        Self {
            dir: mirror.join(DIR),
            keys: Arc::new(keys),
            shadow: None,
        }
    }

    /// Applies what the mirror holds and the standby lacks; makes the standby anew where the mirror's chain does not lead on
    /// from it.
    pub async fn follow(&mut self, mirror: &Mirror) -> Result<(), MirrorError> {
        let account = mirror.account_state()?;
        let Some(timeline) = account.timeline else {
            return Ok(());
        };
        if self.shadow.is_none() {
            self.shadow = Shadow::open(&self.dir, timeline)?;
        }
        if let Some(shadow) = &mut self.shadow {
            match shadow::catch_up(shadow, mirror, &self.keys.record, account.head.seq).await {
                Ok(()) => return Ok(shadow.save()?),
                Err(error) if error.is_full() => return Err(error.into()),
                // Set aside, gone over a gap, or hurt: the mirror holds what makes another.
                Err(_) => self.shadow = None,
            }
        }
        let mut shadow = shadow::rebuild(&self.dir, mirror, &self.keys, &account, timeline).await?;
        match shadow::catch_up(&mut shadow, mirror, &self.keys.record, account.head.seq).await {
            // Its snapshot is not complete yet, and nothing behind it was acknowledged (I2).
            Err(ShadowError::Gap) => return Ok(()),
            other => other?,
        }
        shadow.save()?;
        self.shadow = Some(shadow);
        Ok(())
    }

    /// Flushes it, so that its file can be taken; where it stands.
    pub fn settle(mut self) -> Result<Option<(PathBuf, u64)>, MirrorError> {
        let Some(shadow) = self.shadow.take() else {
            return Ok(None);
        };
        let seq = shadow.position().seq;
        let frozen = shadow.freeze()?;
        let database = frozen.database();
        frozen.thaw()?.settle()?;
        Ok(Some((database, seq)))
    }
}
