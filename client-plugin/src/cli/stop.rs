//! A person, or the system, wants a command to end.

use tokio::signal::unix::{SignalKind, signal};

/// Waits for Ctrl-C, a closed terminal or an order to end. What is dropped then removes what it made.
pub(super) async fn asked() {
    let (interrupt, terminate, hangup) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
        signal(SignalKind::hangup()),
    );
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = (interrupt, terminate, hangup) else {
        // Without handlers the signals end the process as ever; the next drill removes what this one leaves.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}
