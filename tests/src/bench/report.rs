//! The figures as a table for people and as JSON for programs.

use super::{input::Input, samples::Samples};
use anyhow::{Context, Result};
use serde::Serialize;
use std::{fmt, io::Write as _, path::Path, time::Instant};

/// From this load average on, before anything is measured, the figures are doubtful.
const BUSY: f64 = 0.5;

/// In what a row is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Time.
    Seconds,
    /// Space.
    Bytes,
    /// Pace.
    PerSecond,
    /// A part of something.
    Share,
    /// Pace of bytes.
    BytesPerSecond,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Seconds if value < 0.01 => format!("{:.0} us", value * 1e6),
            Self::Seconds if value < 1.0 => format!("{:.1} ms", value * 1e3),
            Self::Seconds => format!("{value:.2} s"),
            Self::Bytes if value < 1e4 => format!("{value:.0} B"),
            Self::Bytes => format!("{:.1} MiB", value / f64::from(1 << 20)),
            Self::PerSecond => format!("{value:.0}/s"),
            Self::Share => format!("{value:.2}"),
            Self::BytesPerSecond => format!("{:.0} MiB/s", value / f64::from(1 << 20)),
        }
    }
}

/// What a row is held to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bar {
    /// Ours over the bare parts is at most this.
    RatioAtMost(f64),
    /// Ours over the bare parts is at least this.
    RatioAtLeast(f64),
    /// Ours is at most this, in the row's unit.
    AtMost(f64),
    /// Ours is at least this, in the row's unit.
    AtLeast(f64),
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What is measured.
    pub name: String,
    /// In what.
    pub unit: Unit,
    /// What Backstop takes; `None` in a row that only shows a bare part.
    pub ours: Option<f64>,
    /// What the bare parts take, where there are any.
    pub bare: Option<f64>,
    /// Ours over the bare parts.
    pub ratio: Option<f64>,
    /// What it is held to.
    pub bar: Option<Bar>,
    /// Whether it is met.
    pub met: Option<bool>,
}

impl Row {
    fn new(name: &str, unit: Unit, ours: Option<f64>, bare: Option<f64>, bar: Option<Bar>) -> Self {
        let ratio = ours.zip(bare.filter(|bare| *bare > 0.0)).map(|(o, b)| o / b);
        let met = bar.and_then(|bar| match bar {
            Bar::RatioAtMost(most) => ratio.map(|ratio| ratio <= most),
            Bar::RatioAtLeast(least) => ratio.map(|ratio| ratio >= least),
            Bar::AtMost(most) => ours.map(|ours| ours <= most),
            Bar::AtLeast(least) => ours.map(|ours| ours >= least),
        });
        Self {
            name: name.to_owned(),
            unit,
            ours,
            bare,
            ratio,
            bar,
            met,
        }
    }

    fn bar_text(&self) -> String {
        match self.bar {
            None => String::new(),
            Some(Bar::RatioAtMost(most)) => format!("<= {most:.2}"),
            Some(Bar::RatioAtLeast(least)) => format!(">= {least:.3}"),
            Some(Bar::AtMost(most)) => format!("<= {}", self.unit.show(most)),
            Some(Bar::AtLeast(least)) => format!(">= {}", self.unit.show(least)),
        }
    }
}

/// Where it was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Processors that this program may use.
    pub cores: usize,
    /// The system's release.
    pub kernel: String,
    /// What the processors call themselves.
    pub processor: String,
    /// Seconds that appending 4 KiB to a file and flushing it takes where the measured files lie, median.
    pub flush: f64,
    /// Processes that wanted to run in the last minute, before the measurement.
    pub load_before: f64,
    /// The same, at the end; the measurement itself counts.
    pub load_after: f64,
    /// Whether the compiler optimised what was measured.
    pub optimised: bool,
}

impl Machine {
    /// This machine, now; its disk is that of `scratch`.
    pub fn now(scratch: &Path) -> Result<Self> {
        let load = load_average()?;
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let processors = std::fs::read_to_string("/proc/cpuinfo")?;
        let model = processors.lines().find(|line| line.starts_with("model name"));
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            kernel: kernel.trim().to_owned(),
            processor: model
                .and_then(|line| line.split_once(": "))
                .map_or_else(|| "unnamed".to_owned(), |(_, name)| name.to_owned()),
            flush: flush(scratch)?,
            load_before: load,
            load_after: load,
            optimised: !cfg!(debug_assertions),
        })
    }
}

fn flush(scratch: &Path) -> Result<f64> {
    let mut file = tempfile::tempfile_in(scratch)?;
    let mut times = Samples::default();
    for _ in 0..100 {
        let began = Instant::now();
        file.write_all(&[0xa5; 4096])?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    Ok(times.median())
}

/// Processes that wanted to run, on average over the last minute.
pub fn load_average() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    let first = text.split(' ').next().context("an empty load average")?;
    Ok(first.parse()?)
}

/// Everything that was measured in one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// Whose batches.
    pub source: &'static str,
    /// How many.
    pub batches: usize,
    /// Bytes of their statements.
    pub sql_bytes: u64,
    /// The figures.
    pub rows: Vec<Row>,
}

impl Report {
    /// A report without figures.
    pub fn new(machine: Machine, input: &Input) -> Self {
        Self {
            machine,
            source: input.source,
            batches: input.batches.len(),
            sql_bytes: input.sql_bytes(),
            rows: Vec::new(),
        }
    }

    /// Adds what Backstop takes beside what the bare parts take.
    pub fn compare(&mut self, name: &str, unit: Unit, ours: f64, bare: f64, bar: Option<Bar>) {
        self.rows.push(Row::new(name, unit, Some(ours), Some(bare), bar));
    }

    /// Adds what has no bare part.
    pub fn ours(&mut self, name: &str, unit: Unit, ours: f64, bar: Option<Bar>) {
        self.rows.push(Row::new(name, unit, Some(ours), None, bar));
    }

    /// Adds one of several bare parts.
    pub fn bare(&mut self, name: &str, unit: Unit, bare: f64) {
        self.rows.push(Row::new(name, unit, None, Some(bare), None));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine {
            cores,
            kernel,
            processor,
            flush,
            load_before,
            load_after,
            optimised,
        } = &self.machine;
        writeln!(
            f,
            "{}: {} batches, {} of SQL{}",
            self.source,
            self.batches,
            Unit::Bytes.show(u32::try_from(self.sql_bytes).map_or(f64::MAX, f64::from)),
            if *optimised { "" } else { "; NOT optimised" },
        )?;
        writeln!(
            f,
            "{cores} cores of {processor}, Linux {kernel}, 4 KiB flushed in {}, load {load_before:.1} before and {load_after:.1} after",
            Unit::Seconds.show(*flush),
        )?;
        if *load_before > BUSY {
            writeln!(
                f,
                "WARNING: this machine was busy with other things: measure again when it is not"
            )?;
        }
        writeln!(f)?;
        let title = ["", "ours", "bare parts", "ratio", "bar", ""];
        let row = |f: &mut fmt::Formatter<'_>, [name, ours, bare, ratio, bar, met]: [&str; 6]| {
            let line = format!("{name:<70} {ours:>11} {bare:>11} {ratio:>7}  {bar:<12} {met}");
            writeln!(f, "{}", line.trim_end())
        };
        row(f, title)?;
        for figure in &self.rows {
            let show = |value: Option<f64>| value.map_or_else(String::new, |value| figure.unit.show(value));
            let (ours, bare) = (show(figure.ours), show(figure.bare));
            let ratio = figure
                .ratio
                .map_or_else(String::new, |ratio| format!("{ratio:.3}"));
            let met = match figure.met {
                None => "",
                Some(true) => "met",
                Some(false) => "NOT met",
            };
            row(f, [&figure.name, &ours, &bare, &ratio, &figure.bar_text(), met])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_met_up_to_its_very_value() {
        let met = |ours, bare, bar| Row::new("", Unit::Seconds, Some(ours), bare, Some(bar)).met;
        assert_eq!(met(3.0, Some(2.0), Bar::RatioAtMost(1.5)), Some(true));
        assert_eq!(met(3.1, Some(2.0), Bar::RatioAtMost(1.5)), Some(false));
        assert_eq!(met(1.0, Some(4.0), Bar::RatioAtLeast(0.25)), Some(true));
        assert_eq!(met(0.9, Some(4.0), Bar::RatioAtLeast(0.25)), Some(false));
        assert_eq!(met(0.02, None, Bar::AtMost(0.02)), Some(true));
        assert_eq!(met(0.8, None, Bar::AtLeast(0.8)), Some(true));
        assert_eq!(met(0.7, None, Bar::AtLeast(0.8)), Some(false));
        assert_eq!(met(1.0, Some(0.0), Bar::RatioAtMost(1.5)), None, "no bare part");
    }
}
