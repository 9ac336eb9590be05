//! A statement taken apart into its shape and its literals (SPEC 5.5.5).
//!
//! This is no SQL parser: any bytes may be cut anywhere and still come back as they were, because a shape with its
//! literals put back is the statement. Cutting where CLN's statements have their values only makes records small.

use std::ops::Range;

/// Stands in a shape where a literal was.
pub(super) const MARK: u8 = 0;
/// Most literals of a statement that is taken apart.
pub(super) const SLOTS_MAX: usize = 1024;
/// Longest shape, bytes.
pub(super) const SHAPE_MAX: usize = 16 << 10;

/// A statement taken apart; its buffers serve one statement after the other.
#[derive(Default)]
pub(super) struct Split {
    /// The text with a [`MARK`] for each literal.
    pub(super) shape: Vec<u8>,
    /// Where the literals are in the statement, in order; none is empty.
    pub(super) literals: Vec<Range<usize>>,
}

impl Split {
    /// Takes `sql` apart; false where that cannot be done.
    pub(super) fn split(&mut self, sql: &[u8]) -> bool {
        self.shape.clear();
        self.literals.clear();
        let mut text = 0;
        let mut at = 0;
        while let Some(&byte) = sql.get(at) {
            let found = match byte {
                b'\'' => {
                    let Some(end) = quote_end(sql, at) else {
                        return false;
                    };
                    Some(at..end)
                }
                b'0'..=b'9' => Some(number_start(sql, at)..word_end(sql, at)),
                MARK => return false,
                _ if is_word(byte) => {
                    let end = word_end(sql, at);
                    match sql.get(at..end) {
                        Some(b"NULL") => Some(at..end),
                        Some(b"x" | b"X") if sql.get(end) == Some(&b'\'') => {
                            let Some(end) = quote_end(sql, end) else {
                                return false;
                            };
                            Some(at..end)
                        }
                        _ => {
                            at = end;
                            None
                        }
                    }
                }
                _ => {
                    at += 1;
                    None
                }
            };
            if let Some(literal) = found {
                self.shape
                    .extend_from_slice(sql.get(text..literal.start).unwrap_or_default());
                self.shape.push(MARK);
                at = literal.end;
                text = literal.end;
                self.literals.push(literal);
                if self.literals.len() > SLOTS_MAX || self.shape.len() > SHAPE_MAX {
                    return false;
                }
            }
        }
        self.shape.extend_from_slice(sql.get(text..).unwrap_or_default());
        self.shape.len() <= SHAPE_MAX
    }
}

/// The end of the quoted text that starts with the quote at `start`; a doubled quote is part of it.
fn quote_end(sql: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        at += memchr::memchr(b'\'', sql.get(at..)?)? + 1;
        if sql.get(at) != Some(&b'\'') {
            return Some(at);
        }
        at += 1;
    }
}

/// Letters, digits, what names may hold, and the point of fractions.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'$' | 0x80..)
}

fn word_end(sql: &[u8], start: usize) -> usize {
    let rest = sql.get(start..).unwrap_or_default();
    start + rest.iter().position(|byte| !is_word(*byte)).unwrap_or(rest.len())
}

/// A minus sign belongs to the number where a value starts.
fn number_start(sql: &[u8], digit: usize) -> usize {
    let sign = digit.wrapping_sub(1);
    let before = sql.get(sign.wrapping_sub(1));
    if sql.get(sign) == Some(&b'-') && matches!(before, Some(b'=' | b'(' | b',' | b' ')) {
        sign
    } else {
        digit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The shape with `?` for each mark, and the literals.
    fn split(sql: &str) -> Option<(String, Vec<String>)> {
        let mut split = Split::default();
        split.split(sql.as_bytes()).then(|| {
            let shape = String::from_utf8(split.shape.clone()).unwrap().replace('\0', "?");
            (
                shape,
                split
                    .literals
                    .iter()
                    .map(|literal| sql[literal.clone()].to_owned())
                    .collect(),
            )
        })
    }

    fn shape_of(sql: &str) -> String {
        split(sql).unwrap().0
    }

    #[test]
    fn values_are_cut_out_and_names_are_not() {
        let sql = "UPDATE t2 SET a1=-5, b=x'00ff', c='it''s', d=NULL,e=7 WHERE x=18446744073709551615;";
        let (shape, literals) = split(sql).unwrap();
        assert_eq!(shape, "UPDATE t2 SET a1=?, b=?, c=?, d=?,e=? WHERE x=?;");
        assert_eq!(
            literals,
            ["-5", "x'00ff'", "'it''s'", "NULL", "7", "18446744073709551615"]
        );
        assert_eq!(shape_of("VALUES(1,-2,(3))"), "VALUES(?,?,(?))");
        assert_eq!(shape_of("a IS NOT NULL"), "a IS NOT ?");
        assert_eq!(shape_of("ANNULLED NULLS xNULL"), "ANNULLED NULLS xNULL");
        assert_eq!(shape_of("n-1"), "n-?");
        assert_eq!(shape_of("1.5 0x1F 1e-3 007"), "? ? ?-? ?");
        assert_eq!(shape_of("X'AB' ax'ab' x 'ab'"), "? ax? x ?");
        assert_eq!(shape_of(""), "");
        assert_eq!(shape_of("''''"), "?");
    }

    #[test]
    fn what_has_no_end_or_too_many_parts_stays_whole() {
        assert_eq!(split("a='b"), None);
        assert_eq!(split("a=x'00"), None);
        assert_eq!(split("'''"), None);
        assert_eq!(split("a\0b"), None);
        assert!(split(&"1,".repeat(SLOTS_MAX)).is_some());
        assert_eq!(split(&"1,".repeat(SLOTS_MAX + 1)), None);
        assert!(split(&"a".repeat(SHAPE_MAX)).is_some());
        assert_eq!(split(&"a".repeat(SHAPE_MAX + 1)), None);
    }

    proptest! {
        #[test]
        fn a_shape_with_its_literals_put_back_is_the_statement(
            sql in "((x')|'|('')|NULL|(-1)|(12)| |=|(ab)|é|\\(|,|(0x)|\\.|-){0,30}"
        ) {
            let sql = sql.into_bytes();
            let mut split = Split::default();
            if split.split(&sql) {
                prop_assert!(split.literals.iter().all(|literal| !literal.is_empty()));
                let mut back = Vec::new();
                let mut literals = split.literals.iter();
                for byte in &split.shape {
                    if *byte == MARK {
                        back.extend_from_slice(&sql[literals.next().unwrap().clone()]);
                    } else {
                        back.push(*byte);
                    }
                }
                prop_assert_eq!(literals.next(), None);
                prop_assert_eq!(back, sql);
            }
        }
    }
}
