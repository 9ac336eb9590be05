//! What a writer and its readers remember from one record to the next: statement shapes, whole values, and which
//! values a shape had last (SPEC 5.5.2). Both sides do the same to it in the same order, so that it is equal on both.

use super::sql::MARK;
use std::{collections::HashMap, sync::Arc};

/// A context serves this many records at most, so that a reader of the last record needs no more than these.
pub const CONTEXT_RECORDS: u64 = 2048;
/// What a context may weigh: about the bytes of memory it takes. Beyond that nothing more is remembered.
pub const CONTEXT_WEIGHT: usize = 8 << 20;
/// From this weight on a writer starts the next record with an empty context.
pub(super) const RESTART_WEIGHT: usize = CONTEXT_WEIGHT / 4 * 3;

/// Shortest literal that enters the table of values; a shorter one costs no more than a place in it.
pub(super) const VALUE_MIN: usize = 8;
/// Longest literal that is remembered.
const VALUE_MAX: usize = 64 << 10;

// What each thing weighs beside its bytes.
const SHAPE_WEIGHT: usize = 256;
const LITERAL_WEIGHT: usize = 32;
const ROW_WEIGHT: usize = 64;
const SLOT_WEIGHT: usize = 8;

/// Where the context keeps a literal. An empty one is not kept and equals none, for no literal is empty.
#[derive(Clone, Copy, Default)]
pub(super) struct Kept {
    at: u32,
    len: u32,
}

/// A statement without its literals, and the literals it came with.
struct Shape {
    text: Arc<[u8]>,
    slots: usize,
    /// Whether the last literal names a row of the database: then one row of literals is kept for each.
    keyed: bool,
    /// `slots` literals for each row.
    rows: Vec<Kept>,
    row_of: HashMap<Box<[u8]>, usize>,
    latest: usize,
    /// The shape of the statement that came next, last time.
    next: Option<usize>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Context {
    shapes: Vec<Shape>,
    /// The literals, one behind the other.
    literals: Vec<u8>,
    /// The table of values, in the order in which they were first seen.
    values: Vec<Kept>,
    /// The shape with which the last record began.
    first: Option<usize>,
    weight: usize,
}

impl Context {
    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.shapes.clear();
        self.literals.clear();
        self.values.clear();
        self.first = None;
        self.weight = 0;
    }

    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    /// Whether `cost` more still fits; if so it counts from now on.
    fn spend(&mut self, cost: usize) -> bool {
        let fits = self.weight + cost <= CONTEXT_WEIGHT;
        if fits {
            self.weight += cost;
        }
        fits
    }

    /// Remembers a shape; `None` where the context is full.
    pub(super) fn add_shape(&mut self, text: &[u8]) -> Option<usize> {
        if !self.spend(text.len() + SHAPE_WEIGHT) {
            return None;
        }
        let slots = memchr::memchr_iter(MARK, text).count();
        self.shapes.push(Shape {
            text: text.into(),
            slots,
            keyed: memchr::memmem::find(text, b" WHERE ").is_some(),
            rows: Vec::new(),
            row_of: HashMap::new(),
            latest: 0,
            next: None,
        });
        Some(self.shapes.len() - 1)
    }

    /// The text of a shape.
    pub(super) fn shape(&self, shape: usize) -> Option<&Arc<[u8]>> {
        Some(&self.shapes.get(shape)?.text)
    }

    /// How many literals a shape has.
    pub(super) fn slots(&self, shape: usize) -> usize {
        self.shapes.get(shape).map_or(0, |shape| shape.slots)
    }

    /// The shape that is expected after the one before, or as the first of a record.
    pub(super) fn expected(&self, before: Option<usize>) -> Option<usize> {
        match before {
            Some(before) => self.shapes.get(before)?.next,
            None => self.first,
        }
    }

    /// Remembers what came after the shape before.
    pub(super) fn expect(&mut self, before: Option<usize>, shape: usize) {
        match before {
            Some(before) => {
                if let Some(before) = self.shapes.get_mut(before) {
                    before.next = Some(shape);
                }
            }
            None => self.first = Some(shape),
        }
    }

    /// Whether `shape` has come with literals that were remembered.
    pub(super) fn has_rows(&self, shape: usize) -> bool {
        self.shapes.get(shape).is_some_and(|shape| !shape.rows.is_empty())
    }

    /// A row of `shape`: 0 for the one that was touched last, else one more than its place.
    pub(super) fn row(&self, shape: usize, row: usize) -> Option<&[Kept]> {
        let shape = self.shapes.get(shape)?;
        let place = row.checked_sub(1).unwrap_or(shape.latest);
        let start = place.checked_mul(shape.slots)?;
        shape.rows.get(start..start.checked_add(shape.slots)?)
    }

    /// How [`Context::row`] is told the row that ends in `key`; 0 also where there is none.
    pub(super) fn row_of(&self, shape: usize, key: &[u8]) -> usize {
        let Some(shape) = self.shapes.get(shape) else {
            return 0;
        };
        match shape.row_of.get(key) {
            Some(place) if *place != shape.latest => place + 1,
            _ => 0,
        }
    }

    /// Remembers with which literals `shape` came: in place of those with the same last literal, or, where the shape
    /// is not keyed, of any. Nothing is remembered of a row whose last literal is not kept, or does not fit.
    pub(super) fn set_row(&mut self, shape: usize, row: &[Kept]) {
        let Some(key) = row.last().filter(|key| key.len > 0) else {
            return;
        };
        let Some(known) = self.shapes.get(shape) else {
            return;
        };
        let key = if known.keyed { self.literal(*key) } else { b"" };
        if let Some(place) = known.row_of.get(key).copied() {
            if let Some(shape) = self.shapes.get_mut(shape) {
                shape.latest = place;
                let start = place * shape.slots;
                if let Some(old) = shape.rows.get_mut(start..start + row.len()) {
                    old.copy_from_slice(row);
                }
            }
            return;
        }
        let key: Box<[u8]> = key.into();
        if !self.spend(key.len() + ROW_WEIGHT + SLOT_WEIGHT * row.len()) {
            return;
        }
        if let Some(shape) = self.shapes.get_mut(shape) {
            shape.latest = shape.row_of.len();
            shape.row_of.insert(key, shape.latest);
            shape.rows.extend_from_slice(row);
        }
    }

    /// Remembers a literal, and enters it in the table of values if it is long enough for that.
    pub(super) fn keep(&mut self, literal: &[u8]) -> Kept {
        let (Ok(at), Ok(len)) = (u32::try_from(self.literals.len()), u32::try_from(literal.len())) else {
            return Kept::default();
        };
        if literal.len() > VALUE_MAX || !self.spend(literal.len() + LITERAL_WEIGHT) {
            return Kept::default();
        }
        self.literals.extend_from_slice(literal);
        let kept = Kept { at, len };
        if literal.len() >= VALUE_MIN {
            self.values.push(kept);
        }
        kept
    }

    /// The bytes of a kept literal; empty if it was not kept.
    pub(super) fn literal(&self, kept: Kept) -> &[u8] {
        let at = kept.at as usize;
        self.literals.get(at..at + kept.len as usize).unwrap_or_default()
    }

    /// How many values are in the table.
    pub(super) fn values(&self) -> usize {
        self.values.len()
    }

    /// The value at a place in the table.
    pub(super) fn value(&self, place: usize) -> Option<Kept> {
        self.values.get(place).copied()
    }
}
