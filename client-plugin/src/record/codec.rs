//! A batch's statements as one stream of bytes (SPEC 5.5).

use super::{
    STATEMENTS_MAX,
    context::{Context, Kept, RESTART_WEIGHT, VALUE_MIN},
    number,
    sql::{MARK, SHAPE_MAX, SLOTS_MAX, Split},
    value::{self, Written},
};
use backstop_protocol::bytes::{Malformed, Reader};
use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

/// The first number of a written statement.
mod op {
    /// The shape that is expected here.
    pub(super) const EXPECTED: usize = 0;
    /// The same with all literals of its latest row.
    pub(super) const REPEATED: usize = 1;
    /// The statement by which CLN raises the data version.
    pub(super) const VERSION: usize = 2;
    /// The whole statement follows.
    pub(super) const WHOLE: usize = 3;
    /// A new shape follows.
    pub(super) const SHAPE: usize = 4;
    /// From here on the number is a known shape's, plus this.
    pub(super) const KNOWN: usize = 5;
}

const TOO_LONG: Malformed = Malformed::Field("length of statements");

/// The statement that ends every real batch: it is known once the version is.
fn version_statement(data_version: u64) -> Option<Vec<u8>> {
    let before = data_version.checked_sub(1)?;
    Some(
        format!("UPDATE vars SET intval = intval + 1 WHERE name = 'data_version' AND intval = {before}")
            .into_bytes(),
    )
}

/// Writes statements one behind the other, each behind its length.
pub(super) fn push_plain(statements: &[Vec<u8>], out: &mut Vec<u8>) {
    for sql in statements {
        value::push_bytes(out, sql);
    }
}

/// Bytes that [`push_plain`] writes.
pub(super) fn plain_len(statements: &[Vec<u8>]) -> usize {
    statements
        .iter()
        .map(|sql| number::len_of(sql.len()) + sql.len())
        .sum()
}

/// Reads what [`push_plain`] wrote; all statements together must have `sql_len` bytes.
pub(super) fn read_plain(stream: &[u8], sql_len: usize) -> Result<Vec<Vec<u8>>, Malformed> {
    let mut reader = Reader::new(stream);
    let mut statements = Statements::new(sql_len);
    while !reader.rest().is_empty() {
        let sql = value::read_bytes(&mut reader)?;
        if sql.len() > statements.room {
            return Err(TOO_LONG);
        }
        statements.push(sql.to_vec())?;
    }
    statements.end()
}

/// Statements as they are read, within the bounds that the record promised.
struct Statements {
    read: Vec<Vec<u8>>,
    /// Bytes still to come.
    room: usize,
}

impl Statements {
    fn new(sql_len: usize) -> Self {
        Self {
            read: Vec::new(),
            room: sql_len,
        }
    }

    fn push(&mut self, sql: Vec<u8>) -> Result<(), Malformed> {
        if self.read.len() >= STATEMENTS_MAX {
            return Err(Malformed::Field("number of statements"));
        }
        self.room = self.room.checked_sub(sql.len()).ok_or(TOO_LONG)?;
        self.read.push(sql);
        Ok(())
    }

    fn end(self) -> Result<Vec<Vec<u8>>, Malformed> {
        if self.room == 0 {
            Ok(self.read)
        } else {
            Err(TOO_LONG)
        }
    }
}

/// Writes statements as shapes and values.
#[derive(Default)]
pub(super) struct Encoder {
    context: Context,
    /// Places in the table of values by hash; where two share one, only the later is found.
    places: HashMap<u64, usize>,
    shapes: HashMap<Arc<[u8]>, usize>,
    split: Split,
    row: Vec<Kept>,
}

impl Encoder {
    /// Starts an empty context.
    pub(super) fn clear(&mut self) {
        self.context.clear();
        self.places.clear();
        self.shapes.clear();
    }

    /// Whether the context has become so heavy that the next record should start an empty one.
    pub(super) fn is_heavy(&self) -> bool {
        self.context.weight() >= RESTART_WEIGHT
    }

    /// Appends the stream of one batch.
    pub(super) fn encode(&mut self, data_version: u64, statements: &[Vec<u8>], out: &mut Vec<u8>) {
        let version = version_statement(data_version);
        let mut before = None;
        for sql in statements {
            let start = out.len();
            if version.as_ref() == Some(sql) {
                number::push_len(out, op::VERSION);
            } else if let Some(shape) = self.push_shape(sql, before, out) {
                let expected = self.context.expected(before) == Some(shape);
                self.context.expect(before, shape);
                before = Some(shape);
                if self.push_values(shape, sql, out) && expected {
                    out.truncate(start);
                    number::push_len(out, op::REPEATED);
                }
            } else {
                number::push_len(out, op::WHOLE);
                value::push_bytes(out, sql);
            }
        }
    }

    /// Takes `sql` apart and writes its shape; `None`, with nothing written, where it must be written whole.
    fn push_shape(&mut self, sql: &[u8], before: Option<usize>, out: &mut Vec<u8>) -> Option<usize> {
        if !self.split.split(sql) {
            return None;
        }
        if let Some(&shape) = self.shapes.get(self.split.shape.as_slice()) {
            let expected = self.context.expected(before) == Some(shape);
            number::push_len(out, if expected { op::EXPECTED } else { op::KNOWN + shape });
            return Some(shape);
        }
        let shape = self.context.add_shape(&self.split.shape)?;
        self.shapes.insert(Arc::clone(self.context.shape(shape)?), shape);
        number::push_len(out, op::SHAPE);
        value::push_bytes(out, &self.split.shape);
        Some(shape)
    }

    /// Writes the literals of the statement that was taken apart last; says whether they are those of the latest row.
    fn push_values(&mut self, shape: usize, sql: &[u8], out: &mut Vec<u8>) -> bool {
        let literals = std::mem::take(&mut self.split.literals);
        let literal = |slot: usize| {
            literals
                .get(slot)
                .and_then(|range| sql.get(range.clone()))
                .unwrap_or_default()
        };
        let mut repeated = false;
        let mut mask = None;
        self.row.clear();
        if !literals.is_empty() && self.context.has_rows(shape) {
            let row = self.context.row_of(shape, literal(literals.len() - 1));
            number::push_len(out, row);
            repeated = row == 0;
            self.row
                .extend_from_slice(self.context.row(shape, row).unwrap_or_default());
            mask = Some(out.len());
            out.resize(out.len() + literals.len().div_ceil(8), 0);
        }
        self.row.resize(literals.len(), Kept::default());
        for slot in 0..literals.len() {
            let literal = literal(slot);
            let Some(kept) = self.row.get(slot).copied() else {
                break;
            };
            if let Some(mask) = mask {
                if self.context.literal(kept) == literal {
                    continue;
                }
                repeated = false;
                if let Some(byte) = out.get_mut(mask + slot / 8) {
                    *byte |= 1 << (slot % 8);
                }
            }
            let kept = self.push_value(literal, out);
            if let Some(place) = self.row.get_mut(slot) {
                *place = kept;
            }
        }
        self.context.set_row(shape, &self.row);
        self.split.literals = literals;
        repeated
    }

    fn push_value(&mut self, literal: &[u8], out: &mut Vec<u8>) -> Kept {
        if literal.len() < VALUE_MIN {
            value::push_literal(out, literal);
            return self.context.keep(literal);
        }
        // A fixed hash: equal input gives equal records. Whoever finds two values with one hash loses a few bytes.
        let mut hasher = DefaultHasher::new();
        literal.hash(&mut hasher);
        let hash = hasher.finish();
        let known = self
            .places
            .get(&hash)
            .and_then(|place| Some((*place, self.context.value(*place)?)));
        if let Some((place, kept)) = known.filter(|(_, kept)| self.context.literal(*kept) == literal) {
            value::push_earlier(out, self.context.values() - place);
            return kept;
        }
        value::push_literal(out, literal);
        let place = self.context.values();
        let kept = self.context.keep(literal);
        if self.context.values() > place {
            self.places.insert(hash, place);
        }
        kept
    }
}

/// Reads what an [`Encoder`] wrote.
#[derive(Default)]
pub(super) struct Decoder {
    context: Context,
    row: Vec<Kept>,
}

impl Decoder {
    /// Starts an empty context.
    pub(super) fn clear(&mut self) {
        self.context.clear();
    }

    /// The statements of one batch, which together must have `sql_len` bytes. After an error the context is of no
    /// use any more.
    pub(super) fn decode(
        &mut self,
        data_version: u64,
        stream: &[u8],
        sql_len: usize,
    ) -> Result<Vec<Vec<u8>>, Malformed> {
        let version = version_statement(data_version);
        let mut reader = Reader::new(stream);
        let mut statements = Statements::new(sql_len);
        let mut before = None;
        while !reader.rest().is_empty() {
            let op = number::read_len(&mut reader)?;
            let shape = match op {
                op::VERSION => {
                    statements.push(version.clone().ok_or(Malformed::Field("data version"))?)?;
                    continue;
                }
                op::WHOLE => {
                    statements.push(value::read_bytes(&mut reader)?.to_vec())?;
                    continue;
                }
                op::EXPECTED | op::REPEATED => {
                    self.context.expected(before).ok_or(Malformed::Field("shape"))?
                }
                op::SHAPE => self.read_shape(&mut reader)?,
                known => known - op::KNOWN,
            };
            let text = Arc::clone(self.context.shape(shape).ok_or(Malformed::Field("shape"))?);
            self.context.expect(before, shape);
            before = Some(shape);
            let changed = self.read_row(&mut reader, shape, op == op::REPEATED)?;
            let sql = self.read_values(&mut reader, &text, &changed, statements.room)?;
            self.context.set_row(shape, &self.row);
            statements.push(sql)?;
        }
        statements.end()
    }

    fn read_shape(&mut self, reader: &mut Reader<'_>) -> Result<usize, Malformed> {
        let text = value::read_bytes(reader)?;
        let slots = memchr::memchr_iter(MARK, text).count();
        if text.len() > SHAPE_MAX || slots > SLOTS_MAX {
            return Err(Malformed::Field("shape"));
        }
        self.context.add_shape(text).ok_or(Malformed::Field("shape"))
    }

    /// Sets `row` to the row that the statement differs from; says in which slots it does.
    fn read_row(
        &mut self,
        reader: &mut Reader<'_>,
        shape: usize,
        repeated: bool,
    ) -> Result<Changed, Malformed> {
        const BAD: Malformed = Malformed::Field("row");
        let slots = self.context.slots(shape);
        self.row.clear();
        if slots == 0 || !self.context.has_rows(shape) {
            self.row.resize(slots, Kept::default());
            return if repeated {
                Err(BAD)
            } else {
                Ok(Changed([0xff; SLOTS_MAX / 8]))
            };
        }
        let mut changed = Changed([0; SLOTS_MAX / 8]);
        let mut row = 0;
        if !repeated {
            row = number::read_len(reader)?;
            let mask = reader.take(slots.div_ceil(8))?;
            // Bits beyond the last slot have no meaning.
            if mask
                .last()
                .is_some_and(|last| !slots.is_multiple_of(8) && last >> (slots % 8) != 0)
            {
                return Err(Malformed::Field("mask"));
            }
            changed.0.get_mut(..mask.len()).ok_or(BAD)?.copy_from_slice(mask);
        }
        self.row
            .extend_from_slice(self.context.row(shape, row).ok_or(BAD)?);
        Ok(changed)
    }

    /// Puts the literals into a shape of that text: those of the row, and the values that follow in place of the
    /// changed ones.
    fn read_values(
        &mut self,
        reader: &mut Reader<'_>,
        text: &[u8],
        changed: &Changed,
        room: usize,
    ) -> Result<Vec<u8>, Malformed> {
        let mut parts = text.split(|byte| *byte == MARK);
        let mut sql = parts.next().unwrap_or_default().to_vec();
        for (slot, (kept, part)) in self.row.iter_mut().zip(parts).enumerate() {
            let start = sql.len();
            let written = if changed.contains(slot) {
                Some(value::read_value(reader, &mut sql)?)
            } else {
                None
            };
            match written {
                Some(Written::Literal) => *kept = self.context.keep(sql.get(start..).unwrap_or_default()),
                Some(Written::Earlier(distance)) => {
                    let place = self.context.values().checked_sub(distance);
                    *kept = place
                        .and_then(|place| self.context.value(place))
                        .ok_or(Malformed::Field("earlier value"))?;
                    sql.extend_from_slice(self.context.literal(*kept));
                }
                None => sql.extend_from_slice(self.context.literal(*kept)),
            }
            // No literal is empty: this one was not kept.
            if sql.len() == start {
                return Err(Malformed::Field("value"));
            }
            sql.extend_from_slice(part);
            if sql.len() > room {
                return Err(TOO_LONG);
            }
        }
        if sql.len() > room { Err(TOO_LONG) } else { Ok(sql) }
    }
}

/// A bit for each slot of a statement.
struct Changed([u8; SLOTS_MAX / 8]);

impl Changed {
    fn contains(&self, slot: usize) -> bool {
        self.0
            .get(slot / 8)
            .is_some_and(|byte| byte >> (slot % 8) & 1 == 1)
    }
}
