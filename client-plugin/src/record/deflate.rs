//! Deflate (RFC 1951, no wrapper) of one record's stream or one chunk: the state is fresh for each (SPEC 5.5.1, 6.1).

use backstop_protocol::bytes::Malformed;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Above what a deflated byte can stand for; a longer claim is refused before anything is allocated.
const RATIO_MAX: usize = 1032;
/// By how much the output of [`Inflater`] grows at least.
const STEP: usize = 64 << 10;

/// Compresses; its tables are kept between records, its history is not.
pub(super) struct Deflater(Compress);

impl Deflater {
    pub(super) fn new() -> Self {
        // Measured over the real trace: level 1 costs 1% more bytes and saves 4 us at the median, 20 us at p90; the
        // highest level saves another 0.2% and is slow on megabytes.
        Self(Compress::new(Compression::new(3), false))
    }

    /// Replaces `out` by `stream` deflated; false where that would not be shorter than `stream`.
    pub(super) fn deflate(&mut self, stream: &[u8], out: &mut Vec<u8>) -> bool {
        shrink(&mut self.0, stream, out)
    }
}

/// Replaces `out` by `plain` deflated, with a fresh history; false where that would not be shorter than `plain`.
pub(crate) fn shrink(compress: &mut Compress, plain: &[u8], out: &mut Vec<u8>) -> bool {
    compress.reset();
    out.clear();
    // Room for whatever comes out: zlib-rs 0.6 does not reset all of its state after a stream that was cut off for lack
    // of room, and panics after a few of them.
    out.reserve(plain.len() + plain.len() / 8 + 64);
    let status = compress.compress_vec(plain, out, FlushCompress::Finish);
    matches!(status, Ok(Status::StreamEnd)) && out.len() < plain.len()
}

/// Decompresses; holds no history between records.
pub(super) struct Inflater(Decompress);

impl Inflater {
    pub(super) fn new() -> Self {
        Self(Decompress::new(false))
    }

    /// Exactly `len` bytes out of all of `deflated`. Memory grows with what really comes out.
    pub(super) fn inflate(&mut self, deflated: &[u8], len: usize) -> Result<Vec<u8>, Malformed> {
        const BAD: Malformed = Malformed::Field("deflated stream");
        if len / RATIO_MAX > deflated.len() {
            return Err(BAD);
        }
        self.0.reset(false);
        let mut out = Vec::new();
        let mut rest = deflated;
        loop {
            // One byte more than promised, so that a longer stream shows itself.
            out.reserve_exact((len - out.len()).min(STEP.max(out.len())) + 1);
            let before = (self.0.total_in(), out.len());
            let status = self
                .0
                .decompress_vec(rest, &mut out, FlushDecompress::None)
                .map_err(|_| BAD)?;
            let read = usize::try_from(self.0.total_in() - before.0).map_err(|_| BAD)?;
            rest = rest.get(read..).ok_or(BAD)?;
            if out.len() > len {
                return Err(BAD);
            }
            if matches!(status, Status::StreamEnd) {
                return if out.len() == len && rest.is_empty() {
                    Ok(out)
                } else {
                    Err(BAD)
                };
            }
            if read == 0 && out.len() == before.1 {
                return Err(BAD);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BAD: Malformed = Malformed::Field("deflated stream");

    #[test]
    fn a_stream_that_is_not_as_long_as_it_says_is_refused() {
        let (mut deflater, mut inflater) = (Deflater::new(), Inflater::new());
        let stream = vec![7; 1 << 20];
        let mut short = Vec::new();
        assert!(deflater.deflate(&stream, &mut short));
        assert_eq!(inflater.inflate(&short, stream.len()), Ok(stream.clone()));
        assert_eq!(inflater.inflate(&short, stream.len() - 1), Err(BAD));
        assert_eq!(inflater.inflate(&short, stream.len() + 1), Err(BAD));
        assert_eq!(inflater.inflate(&short, usize::MAX), Err(BAD));
        assert_eq!(inflater.inflate(&short, 0), Err(BAD));
        assert_eq!(
            inflater.inflate(&short[..short.len() - 1], stream.len()),
            Err(BAD)
        );
        short.push(0);
        assert_eq!(inflater.inflate(&short, stream.len()), Err(BAD));
    }

    #[test]
    fn what_does_not_shrink_is_left_as_it_is() {
        let mut out = Vec::new();
        assert!(!Deflater::new().deflate(b"", &mut out));
        assert!(!Deflater::new().deflate(b"abc", &mut out));
    }

    #[test]
    fn any_number_of_streams_that_do_not_shrink_come_one_after_another() {
        let mut noise = vec![0; 1 << 20];
        rand_core::Rng::fill_bytes(&mut crate::snapshot::testing::TestRng::new(7), &mut noise);
        let (mut deflater, mut out) = (Deflater::new(), Vec::new());
        for len in [16 << 10, 40_000, 100] {
            assert!(
                noise
                    .chunks(len)
                    .all(|stream| !deflater.deflate(stream, &mut out))
            );
        }
        let stream = vec![7; 1000];
        assert!(deflater.deflate(&stream, &mut out));
        assert_eq!(Inflater::new().inflate(&out, 1000), Ok(stream));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_inflater_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), len in 0..100_000_usize) {
            let _ = Inflater::new().inflate(&bytes, len);
        }
    }
}
