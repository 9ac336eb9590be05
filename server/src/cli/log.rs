//! The log: to standard error, with a filter that can be changed while the server runs.

use std::io::{self, IsTerminal as _};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// Checks a filter.
pub(super) fn filter(text: &str) -> Result<String, String> {
    match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("not a filter ({error}); write it like info or debug")),
    }
}

/// The filter; what cannot be read of it is left out, nothing of it at all means from level info on.
fn lossy(text: &str) -> EnvFilter {
    EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse_lossy(text)
}

/// Changes what is logged.
pub(super) struct Log(Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>);

impl Log {
    /// Starts to log what passes the filter.
    pub(super) fn start(filter: &str) -> Self {
        let builder = tracing_subscriber::fmt()
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal())
            .with_env_filter(lossy(filter))
            .with_filter_reloading();
        let handle = builder.reload_handle();
        builder.init();
        Self(Box::new(move |filter| {
            handle.reload(filter).map_err(|error| error.to_string())
        }))
    }

    /// From now on what passes this filter is logged.
    pub(super) fn change(&self, filter: &str) {
        if let Err(error) = (self.0)(lossy(filter)) {
            tracing::warn!(error, "the log's filter could not be changed");
        }
    }
}
