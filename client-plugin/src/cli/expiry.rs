//! When a grant ends, as a person says it.

use super::when::When;
use backstop_protocol::clock::UnixMillis;
use std::str::FromStr;

/// An end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    /// It has none.
    Never,
    /// So many seconds from now.
    In(u64),
    /// At this time.
    At(UnixMillis),
}

/// It names no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither never, nor a span (as in 12h, 90d or 52w), nor a time (as in 2027-11-22T17:00:00Z)")]
pub(super) struct NotExpiry;

impl FromStr for Expiry {
    type Err = NotExpiry;

    fn from_str(text: &str) -> Result<Self, NotExpiry> {
        if text == "never" {
            return Ok(Self::Never);
        }
        for (unit, seconds) in [('h', 3600), ('d', 86_400), ('w', 604_800)] {
            if let Some(number) = text.strip_suffix(unit) {
                let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
                let span = number
                    .parse::<u64>()
                    .ok()
                    .filter(|_| digits)
                    .and_then(|number| number.checked_mul(seconds));
                return span.filter(|span| *span > 0).map(Self::In).ok_or(NotExpiry);
            }
        }
        match text.parse() {
            Ok(When::Time(at)) => Ok(Self::At(at)),
            _ => Err(NotExpiry),
        }
    }
}

impl Expiry {
    /// The second as a grant names it.
    pub(super) fn seconds(self, now: UnixMillis) -> Option<u64> {
        match self {
            Self::Never => None,
            Self::In(span) => Some(now.as_secs().saturating_add(span)),
            Self::At(at) => Some(at.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_end_is_never_a_span_or_a_time() {
        let now = UnixMillis(1_000_500);
        let end = |text: &str| text.parse::<Expiry>().map(|expiry| expiry.seconds(now));
        assert_eq!(end("never"), Ok(None));
        assert_eq!(end("2h"), Ok(Some(1000 + 7200)));
        assert_eq!(end("90d"), Ok(Some(1000 + 90 * 86_400)));
        assert_eq!(end("1w"), Ok(Some(1000 + 604_800)));
        assert_eq!(end("1970-01-02T00:00:00Z"), Ok(Some(86_400)));
        for none in [
            "",
            "0d",
            "d",
            "-1d",
            "+1d",
            "1.5d",
            "90",
            "4711",
            "1y",
            "tomorrow",
            "18446744073709551615w",
        ] {
            assert_eq!(end(none), Err(NotExpiry), "{none}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,40}") {
            let _ = text.parse::<Expiry>();
        }
    }
}
