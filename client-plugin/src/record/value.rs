//! The short forms in which literals are written (SPEC 5.5.4): each comes back byte by byte.

use super::number;
use backstop_protocol::bytes::{Malformed, Reader};
use std::io::Write as _;

/// The first byte of a written value.
mod op {
    pub(super) const NULL: u8 = 0;
    pub(super) const BLOB: u8 = 1;
    pub(super) const TEXT: u8 = 2;
    pub(super) const OTHER: u8 = 3;
    pub(super) const POSITIVE: u8 = 4;
    pub(super) const NEGATIVE: u8 = 5;
    pub(super) const EARLIER: u8 = 6;
    /// From here on a blob of as many bytes as this is less.
    pub(super) const SHORT_BLOB: u8 = 7;
    /// From here on a number, as much as this is less.
    pub(super) const SMALL: u8 = 72;
}

/// The first number that needs more than one byte.
const SMALL_END: u64 = 256 - op::SMALL as u64;

/// A value as it was read.
pub(super) enum Written {
    /// The literal was put at the end of the output.
    Literal,
    /// It is the value that many places back in the table, from 1.
    Earlier(usize),
}

/// Writes a value that is in the table, `distance` places back.
pub(super) fn push_earlier(out: &mut Vec<u8>, distance: usize) {
    out.push(op::EARLIER);
    number::push_len(out, distance);
}

/// Writes a literal in the shortest form from which its very bytes come back.
pub(super) fn push_literal(out: &mut Vec<u8>, literal: &[u8]) {
    match literal {
        b"NULL" => out.push(op::NULL),
        [b'x', b'\'', hex @ .., b'\''] if hex.len() % 2 == 0 => {
            let start = out.len();
            match u8::try_from(hex.len() / 2) {
                Ok(len) if len < op::SMALL - op::SHORT_BLOB => out.push(op::SHORT_BLOB + len),
                _ => {
                    out.push(op::BLOB);
                    number::push_len(out, hex.len() / 2);
                }
            }
            if !push_packed(out, hex) {
                out.truncate(start);
                push_other(out, literal);
            }
        }
        [b'\'', text @ .., b'\''] => {
            out.push(op::TEXT);
            push_bytes(out, text);
        }
        [b'-', digits @ ..] => match canonical(digits) {
            Some(n) if n > 0 => {
                out.push(op::NEGATIVE);
                number::push(out, n);
            }
            _ => push_other(out, literal),
        },
        digits => match canonical(digits) {
            Some(n) if n < SMALL_END => out.push(op::SMALL + u8::try_from(n).unwrap_or_default()),
            Some(n) => {
                out.push(op::POSITIVE);
                number::push(out, n);
            }
            None => push_other(out, literal),
        },
    }
}

fn push_other(out: &mut Vec<u8>, literal: &[u8]) {
    out.push(op::OTHER);
    push_bytes(out, literal);
}

/// Reads a value; a literal is appended to `out`, where it takes at most twice the bytes it has in the stream, and
/// 21 more.
pub(super) fn read_value(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<Written, Malformed> {
    match reader.u8()? {
        op::NULL => out.extend_from_slice(b"NULL"),
        op::BLOB => {
            let bytes = read_bytes(reader)?;
            out.extend_from_slice(b"x'");
            out.extend(
                bytes
                    .iter()
                    .flat_map(|byte| [hex_digit(byte >> 4), hex_digit(byte & 15)]),
            );
            out.push(b'\'');
        }
        op::TEXT => {
            out.push(b'\'');
            out.extend_from_slice(read_bytes(reader)?);
            out.push(b'\'');
        }
        op::OTHER => out.extend_from_slice(read_bytes(reader)?),
        op::POSITIVE => push_decimal(out, number::read(reader)?),
        op::NEGATIVE => {
            out.push(b'-');
            push_decimal(out, number::read(reader)?);
        }
        op::EARLIER => return Ok(Written::Earlier(number::read_len(reader)?)),
        short @ op::SHORT_BLOB..op::SMALL => push_hex(out, reader.take(usize::from(short - op::SHORT_BLOB))?),
        small => push_decimal(out, u64::from(small - op::SMALL)),
    }
    Ok(Written::Literal)
}

/// A length and that many bytes.
pub(super) fn read_bytes<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    let len = number::read_len(reader)?;
    reader.take(len)
}

/// A length and the bytes themselves.
pub(super) fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    number::push_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// The number that `digits` say, if they are how a number is written: no leading zero, at most 64 bits.
fn canonical(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || (digits.len() > 1 && digits.starts_with(b"0")) {
        return None;
    }
    digits.iter().try_fold(0_u64, |n, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        n.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

fn push_decimal(out: &mut Vec<u8>, n: u64) {
    // Writing to memory does not fail.
    let _ = write!(out, "{n}");
}

fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(b"x'");
    out.extend(
        bytes
            .iter()
            .flat_map(|byte| [hex_digit(byte >> 4), hex_digit(byte & 15)]),
    );
    out.push(b'\'');
}

fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 {
        b'0' + nibble
    } else {
        b'a' + nibble - 10
    }
}

/// Appends the bytes that an even number of lower-case hex digits stand for; false where a digit is none.
fn push_packed(out: &mut Vec<u8>, hex: &[u8]) -> bool {
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => 0xff,
    };
    let mut wrong = 0;
    let (pairs, _) = hex.as_chunks::<2>();
    out.extend(pairs.iter().map(|[high, low]| {
        let (high, low) = (nibble(*high), nibble(*low));
        wrong |= (high | low) & 0xf0;
        high << 4 | (low & 15)
    }));
    wrong == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(literal: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        push_literal(&mut out, literal);
        out
    }

    fn read(bytes: &[u8]) -> Vec<u8> {
        let mut reader = Reader::new(bytes);
        let mut out = Vec::new();
        assert!(matches!(read_value(&mut reader, &mut out), Ok(Written::Literal)));
        reader.end().unwrap();
        out
    }

    #[test]
    fn literals_have_the_forms_of_the_specification() {
        for (literal, want) in [
            (&b"NULL"[..], &[0_u8][..]),
            (b"x''", &[7]),
            (b"x'00ff'", &[9, 0, 255]),
            (b"x'00FF'", b"\x03\x07x'00FF'"),
            (b"X'00'", b"\x03\x05X'00'"),
            (b"x'0'", b"\x03\x04x'0'"),
            (b"x'0g'", b"\x03\x05x'0g'"),
            (b"'it''s'", b"\x02\x05it''s"),
            (b"0", &[72]),
            (b"183", &[255]),
            (b"184", &[4, 0xb8, 1]),
            (b"-1", &[5, 1]),
            (b"-0", &[3, 2, b'-', b'0']),
            (b"007", &[3, 3, b'0', b'0', b'7']),
            (b"1.5", &[3, 3, b'1', b'.', b'5']),
        ] {
            assert_eq!(written(literal), want, "{}", String::from_utf8_lossy(literal));
            assert_eq!(read(want), literal);
        }
        let blob = |len: usize| format!("x'{}'", "ab".repeat(len)).into_bytes();
        assert_eq!(written(&blob(64))[..2], [71, 0xab]);
        assert_eq!(written(&blob(65))[..3], [1, 65, 0xab]);
        assert_eq!(read(&written(&blob(65))), blob(65));
        assert_eq!(written(b"18446744073709551616")[0], 3);
        assert_eq!(written(b"18446744073709551615")[0], 4);
    }

    proptest! {
        #[test]
        fn every_literal_comes_back_byte_by_byte(
            literal in "x'[0-9a-fA-F]{0,9}'|'[a-z']{0,9}'|-?[0-9]{1,22}|-|x''|''|NULL|[ -~]{1,9}"
        ) {
            prop_assert_eq!(read(&written(literal.as_bytes())), literal.as_bytes());
        }
    }
}
