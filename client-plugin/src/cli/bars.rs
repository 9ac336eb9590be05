//! How far a restore or an upload is, where a terminal shows it.

use crate::restore::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// Progress bars, where a terminal shows them.
#[derive(Default)]
pub(super) struct Bars {
    bar: Option<(&'static str, ProgressBar)>,
}

impl Bars {
    /// Shows how far it is.
    pub(super) fn show(&mut self, progress: Progress) {
        let (what, done, total) = match progress {
            Progress::Snapshot { done, total } => ("snapshot, bytes", done, total),
            Progress::Records { done, total } => ("records", done, total),
            Progress::Checking => ("checking", 0, 0),
        };
        self.set(what, done, total);
    }

    /// Shows how many pieces of a database were sent.
    pub(super) fn ahead(&mut self, done: u64, total: u64) {
        self.set("pieces sent", done, total);
    }

    fn set(&mut self, what: &'static str, done: u64, total: u64) {
        if self.bar.as_ref().is_none_or(|(shown, _)| *shown != what) {
            self.clear();
            let bar = ProgressBar::new(total);
            if let Ok(style) = ProgressStyle::with_template("{msg:16} {wide_bar} {pos}/{len} {eta}") {
                bar.set_style(style);
            }
            bar.set_message(what);
            self.bar = Some((what, bar));
        }
        if let Some((_, bar)) = &self.bar {
            bar.set_position(done);
        }
    }

    /// Takes them away.
    pub(super) fn clear(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
