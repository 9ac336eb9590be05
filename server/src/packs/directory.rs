//! Packs as files: `<root>/<account>/<first two hex digits>/<pack>`.

use super::{PackError, PackRange, PackStore, StoredPack};
use crate::{durable, store::AccountId};
use async_trait::async_trait;
use backstop_protocol::{clock::UnixMillis, id::PackId};
use bytes::Bytes;
use std::{
    fs::{File, Metadata},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::UNIX_EPOCH,
};

/// Packs below one directory.
#[derive(Clone)]
pub struct DirectoryPacks {
    root: Arc<Path>,
    temporaries: Arc<Path>,
    /// What this process's temporary names begin with.
    process: u64,
    written: Arc<AtomicU64>,
}

/// What a process that shares the directory left unfinished goes after this time, milliseconds.
const LEFT_MS: u64 = 24 * 60 * 60 * 1000;

impl DirectoryPacks {
    /// Makes the directory where it is missing, and removes what an earlier process did not finish.
    pub fn open(root: &Path) -> io::Result<Self> {
        Self::over(root, 0, |_| true)
    }

    /// The same, beside other processes over the same directory: each has a random `process` of its own, and what is left of
    /// one goes when it is a day old at `now`.
    pub fn open_shared(root: &Path, process: u64, now: UnixMillis) -> io::Result<Self> {
        let old = now.0.saturating_sub(LEFT_MS);
        Self::over(root, process, |file| {
            let modified = file.modified().ok();
            let age = modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            age.is_some_and(|at| at.as_millis() < u128::from(old))
        })
    }

    /// The same, beside a server that made the directory: nothing is made, and nothing is removed.
    pub fn beside(root: &Path, process: u64) -> io::Result<Self> {
        let temporaries = root.join("temporary");
        std::fs::metadata(&temporaries)?;
        Ok(Self {
            root: root.into(),
            temporaries: temporaries.into(),
            process,
            written: Arc::default(),
        })
    }

    fn over(root: &Path, process: u64, left: impl Fn(&Metadata) -> bool) -> io::Result<Self> {
        let temporaries = root.join("temporary");
        durable::create_dir(&temporaries)?;
        for found in std::fs::read_dir(&temporaries)? {
            let found = found?;
            // Gone is gone, whoever was faster.
            if found.metadata().is_ok_and(|file| left(&file)) {
                durable::remove(&found.path())?;
            }
        }
        Ok(Self {
            root: root.into(),
            temporaries: temporaries.into(),
            process,
            written: Arc::default(),
        })
    }

    fn path(&self, account: AccountId, pack: PackId) -> PathBuf {
        let name = pack.to_string();
        let first: String = name.chars().take(2).collect();
        self.root.join(account.to_string()).join(first).join(name)
    }
}

#[async_trait]
impl PackStore for DirectoryPacks {
    async fn put(&self, account: AccountId, pack: PackId, bytes: Bytes) -> Result<(), PackError> {
        let to = self.path(account, pack);
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let temporary = self.temporaries.join(format!("{:016x}-{number}", self.process));
        blocking(move || {
            if let Some(dir) = to.parent() {
                durable::create_dir(dir)?;
            }
            // Written again even where it is there, and the directories above flushed again: a process that was killed
            // may have left any of these names not yet durable.
            durable::write(&temporary, &to, &bytes, 0o400)?;
            for above in to.ancestors().skip(2).take(2) {
                durable::sync_dir(above)?;
            }
            Ok(())
        })
        .await
    }

    async fn get(
        &self,
        account: AccountId,
        pack: PackId,
        range: Option<PackRange>,
    ) -> Result<Option<Bytes>, PackError> {
        let path = self.path(account, pack);
        blocking(move || match File::open(path) {
            Ok(file) => read(file, range).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        })
        .await
    }

    async fn remove(&self, account: AccountId, pack: PackId) -> Result<(), PackError> {
        let path = self.path(account, pack);
        blocking(move || Ok(durable::remove(&path)?)).await
    }

    async fn accounts(&self) -> Result<Vec<AccountId>, PackError> {
        let root = self.root.clone();
        blocking(move || {
            let mut found = Vec::new();
            for name in names(&root)? {
                found.extend(name.parse().ok().map(AccountId));
            }
            Ok(found)
        })
        .await
    }

    async fn list(&self, account: AccountId) -> Result<Vec<StoredPack>, PackError> {
        let dir = self.root.join(account.to_string());
        blocking(move || {
            let mut found = Vec::new();
            for below in names(&dir)? {
                let below = dir.join(below);
                for name in names(&below)? {
                    let Ok(pack) = name.parse() else { continue };
                    // Gone is gone.
                    if let Ok(file) = std::fs::metadata(below.join(name)) {
                        let bytes = file.len();
                        found.push(StoredPack { pack, bytes });
                    }
                }
            }
            Ok(found)
        })
        .await
    }

    async fn probe(&self) -> Result<(), PackError> {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let temporary = self.temporaries.join(format!("{:016x}-{number}", self.process));
        let probe = self
            .temporaries
            .join(format!("probe-{:016x}-{number}", self.process));
        // The directory for temporaries is made at the start alone: what is not mounted does not have it.
        blocking(move || {
            durable::write(&temporary, &probe, b"backstop", 0o400)?;
            Ok(durable::remove(&probe)?)
        })
        .await
    }
}

/// The names in a directory; none where it is not there.
fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error)
            if error.kind() == io::ErrorKind::NotFound || error.kind() == io::ErrorKind::NotADirectory =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string().ok());
    }
    Ok(names)
}

fn read(mut file: File, range: Option<PackRange>) -> Result<Bytes, PackError> {
    let mut bytes = Vec::new();
    let Some(PackRange { offset, length }) = range else {
        file.read_to_end(&mut bytes)?;
        return Ok(bytes.into());
    };
    let len = file.metadata()?.len();
    if u64::from(offset) + u64::from(length) > len {
        return Err(PackError::OutOfRange(len));
    }
    file.seek(SeekFrom::Start(offset.into()))?;
    file.take(length.into()).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

/// Runs what blocks on the disk beside the requests, to its end, whether or not anybody waits for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PackError> + Send + 'static,
) -> Result<T, PackError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|broken| Err(PackError::Failed(io::Error::other(broken))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packs::conformance;

    const MINE: AccountId = AccountId(1);
    const PACK: PackId = PackId([0xab; 32]);

    macro_rules! on_a_directory {
        ($($rule:ident,)*) => {
            $(
                #[tokio::test]
                async fn $rule() {
                    let dir = tempfile::tempdir().unwrap();
                    let packs = DirectoryPacks::open(dir.path()).unwrap();
                    conformance::$rule(Arc::new(packs)).await;
                }
            )*
        };
    }

    conformance::for_every_rule!(on_a_directory);

    #[tokio::test]
    async fn a_pack_is_a_file_named_by_its_account_and_hash() {
        let dir = tempfile::tempdir().unwrap();
        let packs = DirectoryPacks::open(dir.path()).unwrap();
        packs.put(MINE, PACK, Bytes::from_static(b"01")).await.unwrap();
        assert!(dir.path().join("1/ab").join(PACK.to_string()).is_file());
    }

    #[tokio::test]
    async fn a_directory_that_is_not_mounted_proves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("packs");
        let packs = DirectoryPacks::open(&root).unwrap();
        packs.probe().await.unwrap();
        std::fs::remove_dir_all(&root).unwrap();
        assert!(packs.probe().await.is_err());
    }

    #[tokio::test]
    async fn what_was_not_finished_is_removed_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        DirectoryPacks::open(dir.path()).unwrap();
        let left = dir.path().join("temporary/7");
        std::fs::write(&left, "half").unwrap();
        DirectoryPacks::open(dir.path()).unwrap();
        assert!(!left.exists());
    }

    #[tokio::test]
    async fn what_another_process_is_writing_is_left_alone_until_it_is_a_day_old() {
        let dir = tempfile::tempdir().unwrap();
        DirectoryPacks::open(dir.path()).unwrap();
        let unfinished = dir.path().join("temporary/theirs");
        std::fs::write(&unfinished, "half").unwrap();
        let written = unfinished.metadata().unwrap().modified().unwrap();
        let written = written.duration_since(UNIX_EPOCH).unwrap().as_millis();
        let at = |millis| UnixMillis(u64::try_from(written).unwrap() + millis);
        let packs = DirectoryPacks::open_shared(dir.path(), 1, at(LEFT_MS)).unwrap();
        assert!(unfinished.exists());
        packs.put(MINE, PACK, Bytes::from_static(b"whole")).await.unwrap();
        let other = DirectoryPacks::open_shared(dir.path(), 2, at(LEFT_MS + 1)).unwrap();
        assert!(!unfinished.exists());
        assert_eq!(other.get(MINE, PACK, None).await.unwrap().unwrap(), "whole");
    }
}
