//! Numbers inside sealed content: little-endian groups of seven bits, the shortest form only (SPEC 5.4.1).

use backstop_protocol::bytes::{Malformed, Reader};

/// Appends `n`; one byte below 128.
pub(super) fn push(out: &mut Vec<u8>, mut n: u64) {
    loop {
        let [low, ..] = n.to_le_bytes();
        n >>= 7;
        if n == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Appends a length.
pub(super) fn push_len(out: &mut Vec<u8>, len: usize) {
    push(out, len as u64);
}

/// Bytes that [`push`] appends for a length.
pub(super) fn len_of(n: usize) -> usize {
    let bits = usize::BITS - n.leading_zeros();
    (bits.div_ceil(7)).max(1) as usize
}

/// Reads what [`push`] wrote; a longer form of the same number, or one above 64 bits, is malformed.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<u64, Malformed> {
    let mut n = 0_u64;
    let mut shift = 0;
    loop {
        let byte = reader.u8()?;
        let group = u64::from(byte & 0x7f);
        // The tenth byte holds the 64th bit and nothing else.
        if shift == 63 && group > 1 {
            return Err(Malformed::Field("number"));
        }
        n |= group << shift;
        if byte & 0x80 == 0 {
            return if byte == 0 && shift > 0 {
                Err(Malformed::Field("number"))
            } else {
                Ok(n)
            };
        }
        shift += 7;
        if shift > 63 {
            return Err(Malformed::Field("number"));
        }
    }
}

/// Reads a length or an index.
pub(super) fn read_len(reader: &mut Reader<'_>) -> Result<usize, Malformed> {
    usize::try_from(read(reader)?).map_err(|_| Malformed::Field("number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(bytes: &[u8]) -> Result<u64, Malformed> {
        let mut reader = Reader::new(bytes);
        let n = read(&mut reader)?;
        reader.end()?;
        Ok(n)
    }

    #[test]
    fn a_number_has_one_form() {
        assert_eq!(decode(&[0]), Ok(0));
        assert_eq!(decode(&[0x80, 0x00]), Err(Malformed::Field("number")));
        assert_eq!(decode(&[0x80; 12]), Err(Malformed::Field("number")));
        let mut most = vec![0xff; 9];
        most.push(1);
        assert_eq!(decode(&most), Ok(u64::MAX));
        most[9] = 2;
        assert_eq!(decode(&most), Err(Malformed::Field("number")));
        assert_eq!(decode(&[0x80]), Err(Malformed::Short));
    }

    proptest! {
        #[test]
        fn a_number_is_read_as_it_was_written(n in any::<u64>(), shift in 0..64) {
            let n = n >> shift;
            let mut out = Vec::new();
            push(&mut out, n);
            prop_assert_eq!(decode(&out), Ok(n));
            prop_assert_eq!(out.len(), len_of(usize::try_from(n).unwrap()));
        }
    }
}
