//! Which bucket holds the packs, where they are not files.

use std::{fmt, time::Duration};

/// A bucket of S3-compatible storage, and how it is reached.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Which one, and below what.
    pub url: BucketUrl,
    /// The service, `https://host[:port]`; without one AWS, or what `AWS_ENDPOINT_URL` names.
    pub endpoint: Option<String>,
    /// The service's region; without one what `AWS_REGION` or `AWS_DEFAULT_REGION` names, else us-east-1.
    pub region: Option<String>,
    /// How long one attempt at one request may take.
    pub timeout: Duration,
    /// Who we are there; without them what the usual variables of AWS say, else the machine's own role.
    pub keys: Option<BucketKeys>,
}

impl Bucket {
    /// A bucket that is reached as the environment says.
    #[must_use]
    pub fn new(url: BucketUrl) -> Self {
        Self {
            url,
            endpoint: None,
            region: None,
            timeout: Duration::from_secs(30),
            keys: None,
        }
    }
}

/// `s3://bucket` or `s3://bucket/prefix`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketUrl {
    /// The bucket.
    pub bucket: String,
    /// What the name of every object begins with, without a slash at either end; may be empty.
    pub prefix: String,
}

/// Why a text names no bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write s3://BUCKET or s3://BUCKET/PREFIX, of small letters, digits, dots and hyphens; in the prefix also capitals and _"
)]
pub struct BadBucketUrl;

impl std::str::FromStr for BucketUrl {
    type Err = BadBucketUrl;

    fn from_str(text: &str) -> Result<Self, BadBucketUrl> {
        let rest = text.strip_prefix("s3://").ok_or(BadBucketUrl)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let small = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c);
        let named = (3..=63).contains(&bucket.len()) && bucket.chars().all(small);
        let part = |part: &str| {
            let known = part
                .chars()
                .all(|c| small(c) || c.is_ascii_uppercase() || c == '_');
            known && !part.is_empty() && part != "." && part != ".."
        };
        if !named || prefix.len() > 512 || !(prefix.is_empty() || prefix.split('/').all(part)) {
            return Err(BadBucketUrl);
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        })
    }
}

impl fmt::Display for BucketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if self.prefix.is_empty() {
            return Ok(());
        }
        write!(f, "/{}", self.prefix)
    }
}

/// Access to a bucket. Shows itself to nobody.
#[derive(Clone)]
pub struct BucketKeys {
    /// `AWS_ACCESS_KEY_ID`.
    pub id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret: String,
}

impl fmt::Debug for BucketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BucketKeys(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bucket_may_have_a_prefix_and_shows_itself_as_it_was_written() {
        for text in ["s3://abc", "s3://my-bucket.eu/a/B_c/0.d"] {
            assert_eq!(text.parse::<BucketUrl>().unwrap().to_string(), text);
        }
        assert_eq!("s3://abc/d/".parse::<BucketUrl>().unwrap().prefix, "d");
    }

    #[test]
    fn what_names_no_bucket_is_refused() {
        for text in [
            "",
            "abc",
            "/abc",
            "s3:/abc",
            "s3://",
            "s3://ab",
            "s3://Abc",
            "s3://abc//d",
            "s3://abc/..",
            "s3://abc/./d",
            "s3://abc/d e",
            "s3://user:pass@abc",
            "https://abc",
            "s3://abc/d?e",
        ] {
            assert_eq!(text.parse::<BucketUrl>(), Err(BadBucketUrl), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic_and_what_it_takes_it_writes_back(text in "(s3://)?\\PC{0,40}") {
            if let Ok(url) = text.parse::<BucketUrl>() {
                prop_assert_eq!(&url.to_string(), text.strip_suffix('/').unwrap_or(&text));
            }
        }
    }
}
