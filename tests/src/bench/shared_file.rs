//! The least that a durable server can do with a body: hash it, append it to one file that all share, and flush once for all that came
//! meanwhile. No account, no order, no index: nothing could be found in it again.

use anyhow::{Context, Result};
use axum::body::Bytes;
use backstop_protocol::record::record_hash;
use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
    sync::mpsc,
};
use tokio::sync::oneshot;

/// A body, and whoever waits until it is durable.
struct Job {
    body: Bytes,
    done: oneshot::Sender<()>,
}

/// The file's one writer, in a thread of its own.
#[derive(Clone)]
pub struct SharedFile(mpsc::Sender<Job>);

impl SharedFile {
    /// An empty file at `path`.
    pub fn create(path: &Path) -> Result<Self> {
        let mut file = File::create(path).with_context(|| path.display().to_string())?;
        let (jobs, heard) = mpsc::channel();
        std::thread::spawn(move || {
            // Whoever waits hears of an error by the end of this thread.
            let _ = write(&mut file, &heard);
        });
        Ok(Self(jobs))
    }

    /// Returns once the body is durable; `false` where it never will be.
    pub async fn append(&self, body: Bytes) -> bool {
        let (done, durable) = oneshot::channel();
        self.0.send(Job { body, done }).is_ok() && durable.await.is_ok()
    }
}

fn write(file: &mut File, jobs: &mpsc::Receiver<Job>) -> io::Result<()> {
    let mut group = Vec::new();
    while let Ok(first) = jobs.recv() {
        let mut bytes = Vec::new();
        for job in std::iter::once(first).chain(jobs.try_iter()) {
            bytes.extend_from_slice(&record_hash(&job.body).0);
            bytes.extend_from_slice(&job.body);
            group.push(job.done);
        }
        file.write_all(&bytes)?;
        file.sync_data()?;
        for done in group.drain(..) {
            // It may wait no more.
            let _ = done.send(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_in_the_file_once_its_append_returns() -> Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("floor");
        let file = SharedFile::create(&path)?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        for body in [&b"one"[..], b"another"] {
            assert!(runtime.block_on(file.append(Bytes::copy_from_slice(body))));
            assert!(std::fs::read(&path)?.ends_with(body));
        }
        Ok(())
    }
}
