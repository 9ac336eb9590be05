//! How far a restore or an upload is: a bar with rate and time left on a terminal, now and then a line elsewhere.
//!
//! Both go to standard error, so that what a command prints can be piped.

use crate::restore::Progress;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use std::{
    fmt,
    io::{self, IsTerminal as _, Write as _},
};

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
struct What {
    /// As a person says it.
    name: &'static str,
    /// In what.
    unit: &'static str,
    /// Less than this is over before anybody asks how far it is.
    long: u64,
}

const SNAPSHOT: What = What {
    name: "snapshot",
    unit: "bytes",
    long: 32 << 20,
};
const RECORDS: What = What {
    name: "records",
    unit: "records",
    long: 10_000,
};
const PIECES: What = What {
    name: "sent",
    unit: "pieces",
    long: 2_000,
};
const CHECKING: What = What {
    name: "checking",
    unit: "",
    long: u64::MAX,
};

/// How far it is.
pub(super) struct Bars {
    /// Whether a terminal shows it.
    watched: bool,
    now: Option<Step>,
}

/// What is being counted, and how it is shown.
struct Step {
    what: What,
    bar: Option<ProgressBar>,
    /// Tenths of the whole that a line told.
    told: u64,
}

impl Default for Bars {
    fn default() -> Self {
        Self {
            watched: io::stderr().is_terminal(),
            now: None,
        }
    }
}

impl Bars {
    /// Shows how far it is.
    pub(super) fn show(&mut self, progress: Progress) {
        match progress {
            Progress::Snapshot { done, total } => self.set(SNAPSHOT, done, total),
            Progress::Records { done, total } => self.set(RECORDS, done, total),
            Progress::Checking => self.set(CHECKING, 0, 0),
        }
    }

    /// Shows how many pieces of a database were sent.
    pub(super) fn ahead(&mut self, done: u64, total: u64) {
        self.set(PIECES, done, total);
    }

    fn set(&mut self, what: What, done: u64, total: u64) {
        if let Some(line) = self.step(what, done, total) {
            // Nobody has to read it.
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    /// Moves the bar, or says what a line tells instead.
    fn step(&mut self, what: What, done: u64, total: u64) -> Option<String> {
        if self.now.as_ref().is_none_or(|step| step.what != what) {
            self.clear();
            self.now = Some(Step {
                what,
                bar: self.watched.then(|| bar(what, total)),
                told: 0,
            });
        }
        let step = self.now.as_mut()?;
        if let Some(bar) = &step.bar {
            bar.set_position(done);
            return None;
        }
        let tenths = done.saturating_mul(10).checked_div(total)?;
        if total < what.long || tenths <= step.told {
            return None;
        }
        step.told = tenths;
        Some(format!(
            "{}: {done} of {total} {}, {} %",
            what.name,
            what.unit,
            tenths * 10
        ))
    }

    /// Takes it away.
    pub(super) fn clear(&mut self) {
        if let Some(bar) = self.now.take().and_then(|step| step.bar) {
            bar.finish_and_clear();
        }
    }
}

fn bar(what: What, total: u64) -> ProgressBar {
    let template = match what.unit {
        "" => "{msg:10} {spinner} {elapsed}",
        "bytes" => "{msg:10} {wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
        _ => "{msg:10} {wide_bar} {pos} of {len}, {rate}, {eta} left",
    };
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template(template) {
        let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
            // There is nobody to tell.
            let _ = write!(out, "{:.0}/s", state.per_sec());
        };
        bar.set_style(style.with_key("rate", rate));
    }
    bar.set_message(what.name);
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(bars: &mut Bars, what: What, steps: &[u64], total: u64) -> Vec<String> {
        let lines = steps.iter().filter_map(|done| bars.step(what, *done, total));
        lines.collect()
    }

    #[test]
    fn without_a_terminal_each_tenth_of_what_is_long_is_a_line_and_what_is_short_is_none() {
        let mut bars = Bars {
            watched: false,
            now: None,
        };
        let total = 10 * RECORDS.long;
        let steps = [0, 1, total / 10, total / 10 + 1, total / 2, total];
        assert_eq!(
            said(&mut bars, RECORDS, &steps, total),
            [
                "records: 10000 of 100000 records, 10 %",
                "records: 50000 of 100000 records, 50 %",
                "records: 100000 of 100000 records, 100 %",
            ]
        );
        assert_eq!(said(&mut bars, SNAPSHOT, &[1, 2, 3], 3), Vec::<String>::new());
        assert_eq!(said(&mut bars, CHECKING, &[0], 0), Vec::<String>::new());
        // The next of a kind begins anew.
        assert_eq!(said(&mut bars, RECORDS, &[total], total).len(), 1);
    }

    #[test]
    fn on_a_terminal_there_is_a_bar_and_no_line() {
        let mut bars = Bars {
            watched: true,
            now: None,
        };
        assert_eq!(
            said(&mut bars, RECORDS, &[RECORDS.long], RECORDS.long),
            Vec::<String>::new()
        );
        assert!(bars.now.as_ref().is_some_and(|step| step.bar.is_some()));
        bars.clear();
        assert!(bars.now.is_none());
    }
}
