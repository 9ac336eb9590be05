//! Where an operator's commands find the database, and how they say what they found.

use super::print;
use crate::{DatabaseUrl, data_dir::database_in, default_data_dir, store::Office};
use backstop_protocol::clock::UnixMillis;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Where the server keeps everything, and how to answer.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// Where the server keeps everything [default: as for serve].
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// The PostgreSQL database, where the server keeps records in one.
    #[arg(
        long,
        value_name = "postgres://...",
        env = "BACKSTOP_SERVER_DATABASE",
        hide_env_values = true
    )]
    pub(super) database: Option<DatabaseUrl>,
    /// Answer as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl Place {
    pub(super) async fn open(&self) -> anyhow::Result<Office> {
        let office = if let Some(url) = &self.database {
            Office::of_url(url.expose()).await
        } else {
            let data = self.data.clone().map_or_else(default_data_dir, Ok)?;
            Office::of_file(&database_in(&data)).await
        };
        Ok(office?)
    }

    /// Says it, as a person or as a program wants it.
    pub(super) fn say(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        if self.json {
            print(&format!("{}\n", serde_json::to_string_pretty(value)?));
        } else {
            print(&text());
        }
        Ok(())
    }
}

/// How long ago, or in how long, as a person says it.
pub(super) fn distance(a: UnixMillis, b: UnixMillis) -> String {
    match a.0.abs_diff(b.0) / 1000 {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds @ 7_200..=172_799 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// Bytes as a person says them.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (u128::from(bytes) * 10, 0);
    while value >= 10_240 && unit + 1 < UNITS.len() {
        value /= 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{}.{} {name}", value / 10, value % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_said_in_few_digits() {
        for (bytes, want) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (1 << 30, "1.0 GiB"),
        ] {
            assert_eq!(size(bytes), want);
        }
        assert!(size(u64::MAX).ends_with(" TiB"));
        let at = UnixMillis;
        assert_eq!(distance(at(5), at(90_005)), "90 s");
        assert_eq!(distance(at(7 * 86_400_000), at(0)), "7 days");
    }
}
