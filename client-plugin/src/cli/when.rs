//! A point in a node's past as a person names it.

use crate::plugin::Utc;
use backstop_protocol::clock::UnixMillis;
use std::{fmt, str::FromStr};

/// A record by its seq, or a time by the server's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// After this record.
    Record(u64),
    /// After the last record that was received by then.
    Time(UnixMillis),
}

/// It names no point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "neither a record (as in 4711) nor a time (as in 2026-11-22T17:00:00Z, 2026-11-22T17:00:00.250Z or 1795366800s)"
)]
pub(super) struct NotWhen;

impl FromStr for When {
    type Err = NotWhen;

    fn from_str(text: &str) -> Result<Self, NotWhen> {
        if let Some(seconds) = text.strip_suffix('s') {
            let millis = number(seconds).and_then(|seconds| seconds.checked_mul(1000));
            return millis.map(UnixMillis).map(Self::Time).ok_or(NotWhen);
        }
        number(text)
            .map(Self::Record)
            .or_else(|| time(text).map(Self::Time))
            .ok_or(NotWhen)
    }
}

/// A time in the form in which [`When`] takes it, to the millisecond.
pub(super) struct Stamp(pub(super) UnixMillis);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = Utc(self.0).to_string();
        let mut words = text.split(' ');
        let (day, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        write!(f, "{day}T{second}.{:03}Z", self.0.0 % 1000)
    }
}

/// Decimal digits and nothing else.
fn number(digits: &str) -> Option<u64> {
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}

/// RFC 3339 in UTC: `YYYY-MM-DDThh:mm:ss`, up to three digits of a fraction, `Z`. No leap seconds: the clock has none.
fn time(text: &str) -> Option<UnixMillis> {
    let (day, second) = text.strip_suffix('Z')?.split_once('T')?;
    let (second, fraction) = match second.split_once('.') {
        Some((second, fraction)) => (second, fraction),
        None => (second, "0"),
    };
    let millis = match fraction.len() {
        1 => number(fraction)? * 100,
        2 => number(fraction)? * 10,
        3 => number(fraction)?,
        _ => return None,
    };
    let [year, month, day] = fields(day, '-', [4, 2, 2])?;
    let [hour, minute, second] = fields(second, ':', [2, 2, 2])?;
    let months = 1..=12;
    if year < 1970 || !months.contains(&month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    if day < 1 || day > days_of(year, month) {
        return None;
    }
    let before_year: u64 = (1970..year).map(|year| 365 + u64::from(is_leap(year))).sum();
    let before_month: u64 = (1..month).map(|month| days_of(year, month)).sum();
    let days = before_year + before_month + day - 1;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    Some(UnixMillis(seconds * 1000 + millis))
}

/// Three numbers of fixed widths.
fn fields(text: &str, between: char, widths: [usize; 3]) -> Option<[u64; 3]> {
    let mut parts = text.split(between);
    let mut next = |width: usize| parts.next().filter(|part| part.len() == width).and_then(number);
    let [a, b, c] = widths;
    let found = [next(a)?, next(b)?, next(c)?];
    parts.next().is_none().then_some(found)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_is_a_record_and_everything_else_is_a_time_in_one_of_two_forms() {
        assert_eq!("4711".parse(), Ok(When::Record(4711)));
        assert_eq!("0".parse(), Ok(When::Record(0)));
        assert_eq!(
            "1795366800s".parse(),
            Ok(When::Time(UnixMillis(1_795_366_800_000)))
        );
        assert_eq!(
            "2026-11-22T17:00:00Z".parse(),
            Ok(When::Time(UnixMillis(1_795_366_800_000)))
        );
        for (text, millis) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2024-02-29T23:59:59.9Z", 1_709_251_199_900),
            ("2024-02-29T23:59:59.98Z", 1_709_251_199_980),
            ("2000-03-01T00:00:00.001Z", 951_868_800_001),
        ] {
            assert_eq!(text.parse(), Ok(When::Time(UnixMillis(millis))), "{text}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for text in [
            "",
            "s",
            "-1",
            "+1",
            " 1",
            "1 ",
            "0x10",
            "18446744073709551616",
            "18446744073709551615s",
            "1.5s",
            "yesterday",
            "2026-11-22",
            "2026-11-22 17:00:00Z",
            "2026-11-22T17:00:00",
            "2026-11-22T17:00:00+01:00",
            "2026-11-22t17:00:00z",
            "2026-11-22T17:00Z",
            "2026-1-22T17:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "1900-01-01T00:00:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T23:60:00Z",
            "2026-11-22T23:59:60Z",
            "2026-11-22T17:00:00.Z",
            "2026-11-22T17:00:00.1234Z",
            "2026-11-22T17:00:00:00Z",
        ] {
            assert_eq!(text.parse::<When>(), Err(NotWhen), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_again(millis in 0..253_402_300_800_000_u64) {
            let stamp = Stamp(UnixMillis(millis)).to_string();
            prop_assert_eq!(stamp.parse::<When>(), Ok(When::Time(UnixMillis(millis))));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,40}") {
            let _ = text.parse::<When>();
        }
    }
}
