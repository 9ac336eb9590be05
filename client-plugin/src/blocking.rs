//! What computes, or waits for a disk, away from the thread on which everything else takes turns.

/// Runs `work` on one of the runtime's threads for that; a panic in it goes on here. Who stops waiting does not stop it.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
