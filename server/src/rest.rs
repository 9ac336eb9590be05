//! Work that nobody waits for rests between its steps: what it asks of the store, appends wait behind.

use std::time::Duration;
use tokio::time::Instant;

/// How much longer than a step the rest after it is.
const TIMES: u32 = 3;
/// But no longer than this.
const LONGEST: Duration = Duration::from_secs(1);

/// Rests after a step that began then.
pub(crate) async fn after(began: Instant) {
    tokio::time::sleep((began.elapsed() * TIMES).min(LONGEST)).await;
}
