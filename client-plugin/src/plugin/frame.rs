//! Cuts a stream of bytes into JSON values.
//!
//! lightningd ends each message with two newlines, but whether a value is complete is decided by its braces: strings
//! may hold anything, white space may be any, a message may arrive in any number of reads.

use memchr::memchr2;

/// What cannot be the start of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message must be a JSON object")]
pub(super) struct NotAnObject;

/// Collects bytes until they make a whole JSON object.
#[derive(Debug, Default)]
pub(super) struct Framer {
    buffer: Vec<u8>,
    /// How far the buffer was looked at.
    scanned: usize,
    depth: usize,
    in_string: bool,
}

impl Framer {
    /// Adds what was read.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole object, if there is one. Each byte is looked at once, however the object arrived.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, NotAnObject> {
        if self.depth == 0 {
            let blank = self
                .buffer
                .iter()
                .take_while(|byte| byte.is_ascii_whitespace())
                .count();
            self.buffer.drain(..blank);
            self.scanned = 0;
            match self.buffer.first() {
                None => return Ok(None),
                Some(b'{') => {}
                Some(_) => return Err(NotAnObject),
            }
        }
        while let Some(rest) = self.buffer.get(self.scanned..).filter(|rest| !rest.is_empty()) {
            if self.in_string {
                match memchr2(b'"', b'\\', rest) {
                    None => self.scanned += rest.len(),
                    Some(at) if rest.get(at) == Some(&b'"') => {
                        self.scanned += at + 1;
                        self.in_string = false;
                    }
                    // The byte after a backslash belongs to it; it may not be here yet.
                    Some(at) if at + 1 < rest.len() => self.scanned += at + 2,
                    Some(at) => {
                        self.scanned += at;
                        return Ok(None);
                    }
                }
                continue;
            }
            let byte = rest.first().copied();
            self.scanned += 1;
            match byte {
                Some(b'"') => self.in_string = true,
                Some(b'{' | b'[') => self.depth += 1,
                Some(b'}' | b']') => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        let rest = self.buffer.split_off(self.scanned);
                        self.scanned = 0;
                        return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
                    }
                }
                _ => {}
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut framer = Framer::default();
        let mut found = Vec::new();
        for piece in pieces {
            framer.push(piece);
            while let Some(frame) = framer.next().unwrap() {
                found.push(frame);
            }
        }
        found
    }

    #[test]
    fn a_message_ends_with_its_last_brace_and_nowhere_else() {
        let input = b"\n {\"a\":\"}\\\"{\",\"b\":[{}]}\n\n\r\n{\"c\":\n\n1}{}  ";
        assert_eq!(
            frames(&[input]),
            [&b"{\"a\":\"}\\\"{\",\"b\":[{}]}"[..], b"{\"c\":\n\n1}", b"{}"]
        );
    }

    #[test]
    fn what_is_no_object_is_refused_at_its_first_byte() {
        for start in ["x", "[1]", "\"a\"", "}", "1"] {
            let mut framer = Framer::default();
            framer.push(start.as_bytes());
            assert_eq!(framer.next(), Err(NotAnObject));
        }
    }

    proptest! {
        #[test]
        fn cuts_between_reads_change_nothing(text in ".{0,40}", cuts in proptest::collection::vec(0_usize..200, 0..6)) {
            let one = serde_json::to_vec(&serde_json::json!({"k": text, "l": [text]})).unwrap();
            let stream = [one.as_slice(), b"\n\n", &one, b"\n\n"].concat();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.push(0);
            cuts.push(stream.len());
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            prop_assert_eq!(frames(&pieces), vec![one.clone(), one]);
        }

        #[test]
        fn no_bytes_make_the_framer_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut framer = Framer::default();
            framer.push(&bytes);
            while let Ok(Some(_)) = framer.next() {}
        }
    }
}
