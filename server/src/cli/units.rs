//! Sizes, shares and times as a person writes them.

use std::time::Duration;

/// Bytes: a number, or one with K, M, G or T behind it (1024 each), and `iB` or `B` behind that.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let unit = unit.trim_end_matches('B').trim_end_matches('i');
    let shift = match unit.to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err("not a size; write it like 8MiB".to_owned()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "not a size; write it like 8MiB".to_owned())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "too large".to_owned())
}

/// A time: a number with s, m, h or d behind it.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err("not a time; write it like 12h or 7d".to_owned()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "not a time; write it like 12h or 7d".to_owned())?;
    let seconds = number
        .checked_mul(seconds)
        .ok_or_else(|| "too large".to_owned())?;
    Ok(Duration::from_secs(seconds))
}

/// A time that somebody is given: from one second to a day.
pub(super) fn limit(text: &str) -> Result<Duration, String> {
    let limit = time(text)?;
    let day = Duration::from_hours(24);
    if (Duration::from_secs(1)..=day).contains(&limit) {
        Ok(limit)
    } else {
        Err("from 1s to 1d".to_owned())
    }
}

/// A share like 0.5 or 2, in percent.
pub(super) fn percent(text: &str) -> Result<u64, String> {
    let fault = || "not a share; write it like 0.5, with two digits behind the point at most".to_owned();
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 2 {
        return Err(fault());
    }
    let whole: u64 = whole.parse().map_err(|_| fault())?;
    let part: u64 = format!("{part:0<2}").parse().map_err(|_| fault())?;
    whole
        .checked_mul(100)
        .and_then(|percent| percent.checked_add(part))
        .ok_or_else(fault)
}

/// The number, and what stands behind it.
fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_times_and_shares_are_read_as_people_write_them() {
        for (text, want) in [
            ("0", 0),
            ("17", 17),
            ("8MiB", 8 << 20),
            ("8M", 8 << 20),
            ("2KB", 2048),
            ("1t", 1 << 40),
        ] {
            assert_eq!(bytes(text), Ok(want), "{text}");
        }
        for (text, want) in [("90s", 90), ("5m", 300), ("12h", 43_200), ("7d", 604_800)] {
            assert_eq!(time(text), Ok(Duration::from_secs(want)), "{text}");
        }
        for (text, want) in [("0.5", 50), ("2", 200), ("0.05", 5), ("1.25", 125), ("0", 0)] {
            assert_eq!(percent(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in ["", "MiB", "8XB", "-1", "1.5M", "99999999999999T", "8 MiB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        for text in [
            "",
            "7",
            "d",
            "7w",
            "-7d",
            "99999999999999999999d",
            "999999999999999999d",
        ] {
            assert!(time(text).is_err(), "{text}");
        }
        for text in ["0s", "25h", "10"] {
            assert!(limit(text).is_err(), "{text}");
        }
        for text in ["", ".5", "0.", "0.123", "-1", "half", "99999999999999999999"] {
            assert!(percent(text).is_err(), "{text}");
        }
    }
}
