//! The real plugin on a machine whose clock is wrong, by `WRONG_CLOCK_MS` milliseconds forwards or backwards.

use backstop::{plugin, random::SharedRng};
use backstop_protocol::clock::{Clock, SystemClock, UnixMillis};
use std::{process::ExitCode, sync::Arc};

struct Wrong(i64);

impl Clock for Wrong {
    fn now(&self) -> UnixMillis {
        UnixMillis(SystemClock.now().0.saturating_add_signed(self.0))
    }
}

fn main() -> ExitCode {
    let by = std::env::var("WRONG_CLOCK_MS").ok();
    let by = by.and_then(|by| by.parse().ok()).unwrap_or(0);
    match std::env::current_dir() {
        Ok(network_dir) => plugin::run(network_dir, Arc::new(Wrong(by)), SharedRng::system()),
        Err(_) => ExitCode::FAILURE,
    }
}
