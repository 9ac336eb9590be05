//! SPEC's test vectors: one `.txt` file each, beside this one, and the reader of their format (SPEC 9).
//!
//! ```text
//! # Comments say why.
//! kind: record-header
//! expect: epoch
//! sealed:
//!   424b5350 01 01     # hex, in groups; what follows a # is left out
//!   07*16              # one byte, sixteen times
//! ```
//!
//! `expect` is `ok` or the stable name of the failure. The other fields belong to the kind; each is text on the line of
//! its name, or bytes in hex there or on the indented lines below. A file's name is the claim under test and starts
//! with the first word of its kind.
//!
//! Two runners share the folder: one for what anybody can check, one for what takes a client's keys. Linked by tests
//! alone, so it panics with the file's name where a vector is not what this page says.

use std::{collections::BTreeMap, fmt, path::Path};

/// Who runs the vectors of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runner {
    /// `protocol/tests/vectors.rs`: no key of a client is needed.
    Protocol,
    /// `client-plugin/tests/vectors.rs`: what only a client can do.
    Client,
}

/// Every kind of vector and who runs it.
pub const KINDS: &[(&str, Runner)] = &[
    ("identifier", Runner::Protocol),
    ("identity", Runner::Protocol),
    ("signmessage", Runner::Protocol),
    ("grant", Runner::Protocol),
    ("revocation", Runner::Protocol),
    ("login", Runner::Protocol),
    ("receipt", Runner::Protocol),
    ("opening", Runner::Protocol),
    ("request-mac", Runner::Protocol),
    ("answer-mac", Runner::Protocol),
    ("record-header", Runner::Protocol),
    ("placement", Runner::Protocol),
    ("head-order", Runner::Protocol),
    ("locate-request", Runner::Protocol),
    ("locate-answer", Runner::Protocol),
    ("pack", Runner::Protocol),
    ("manifest-header", Runner::Protocol),
    ("snapshot-commit", Runner::Protocol),
    ("files-header", Runner::Protocol),
    ("frames", Runner::Protocol),
    ("problem", Runner::Protocol),
    ("account", Runner::Protocol),
    ("hsm-secret", Runner::Client),
    ("recovery-key", Runner::Client),
    ("keys", Runner::Client),
    ("padding", Runner::Client),
    ("record-content", Runner::Client),
    ("chunk", Runner::Client),
    ("manifest-content", Runner::Client),
    ("files-content", Runner::Client),
];

/// One test vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vector {
    /// The file's name without `.txt`: the claim under test.
    pub name: String,
    /// What it is a sample of; one of [`KINDS`].
    pub kind: String,
    /// `ok`, or the stable name of the failure.
    pub expect: String,
    fields: BTreeMap<String, String>,
}

/// Why a file is not a vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadVector(String);

impl fmt::Display for BadVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn bad<T>(why: impl Into<String>) -> Result<T, BadVector> {
    Err(BadVector(why.into()))
}

impl Vector {
    /// Reads the text of one file.
    pub fn parse(name: &str, text: &str) -> Result<Self, BadVector> {
        let mut fields = BTreeMap::<String, String>::new();
        let mut last: Option<String> = None;
        for line in text
            .lines()
            .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        {
            if line.starts_with(' ') {
                let Some(value) = last.as_ref().and_then(|key| fields.get_mut(key)) else {
                    return bad("an indented line before the first field");
                };
                value.push('\n');
                value.push_str(line);
                continue;
            }
            let Some((key, value)) = line.split_once(':') else {
                return bad(format!("neither a field nor a comment: {line}"));
            };
            let value = value.strip_prefix(' ').unwrap_or(value);
            if fields.insert(key.to_owned(), value.to_owned()).is_some() {
                return bad(format!("{key} stands there twice"));
            }
            last = Some(key.to_owned());
        }
        let mut required = |key: &str| fields.remove(key).ok_or_else(|| BadVector(format!("no {key}")));
        let (kind, expect) = (required("kind")?, required("expect")?);
        if !KINDS.iter().any(|(known, _)| *known == kind) {
            return bad(format!("kind {kind} is unknown"));
        }
        if name.split('_').next() != kind.split('-').next() {
            return bad(format!(
                "the file's name does not start with the first word of {kind}"
            ));
        }
        let name = name.to_owned();
        Ok(Self {
            name,
            kind,
            expect,
            fields,
        })
    }

    /// Whether there is such a field.
    #[must_use]
    pub fn has(&self, field: &str) -> bool {
        self.fields.contains_key(field)
    }

    /// Takes a field as text; `None` where the vector has none of that name.
    pub fn optional(&mut self, field: &str) -> Option<String> {
        self.fields.remove(field)
    }

    /// Takes a field as text.
    ///
    /// # Panics
    /// Where the vector has no such field.
    pub fn text(&mut self, field: &str) -> String {
        self.optional(field)
            .unwrap_or_else(|| panic!("{}: no {field}", self.name))
    }

    /// Takes a field as a number.
    ///
    /// # Panics
    /// Where the vector has no such field, or it is no number of that size.
    pub fn number<T: std::str::FromStr>(&mut self, field: &str) -> T {
        self.text(field)
            .parse()
            .unwrap_or_else(|_| panic!("{}: {field} is no such number", self.name))
    }

    /// Takes a field as bytes.
    ///
    /// # Panics
    /// Where the vector has no such field, or it is not hex.
    pub fn bytes(&mut self, field: &str) -> Vec<u8> {
        let text = self.text(field);
        parse_hex(&text).unwrap_or_else(|why| panic!("{}: {field}: {why}", self.name))
    }

    /// Takes a field as exactly `N` bytes.
    ///
    /// # Panics
    /// Where the vector has no such field, or it is not hex of that length.
    pub fn array<const N: usize>(&mut self, field: &str) -> [u8; N] {
        self.bytes(field).try_into().unwrap_or_else(|bytes: Vec<u8>| {
            panic!("{}: {field} has {} bytes, not {N}", self.name, bytes.len())
        })
    }

    /// Compares what a program did with `expect`. `outcome` is the failure's name, or what was found on success: pairs
    /// of a field and its value; what the vector does not say is not compared. The error says how they differ, or
    /// which fields nobody asked for.
    pub fn judge(mut self, outcome: Result<Vec<(&str, String)>, String>) -> Result<(), String> {
        let (result, found) =
            outcome.map_or_else(|failure| (failure, vec![]), |found| ("ok".to_owned(), found));
        if result != self.expect {
            return Err(format!("{}: expected {}, found {result}", self.name, self.expect));
        }
        for (field, value) in found {
            if let Some(wanted) = self.optional(field).filter(|wanted| *wanted != value) {
                return Err(format!(
                    "{}: {field}: expected {wanted}, found {value}",
                    self.name
                ));
            }
        }
        if self.fields.is_empty() {
            Ok(())
        } else {
            let left: Vec<_> = self.fields.keys().collect();
            Err(format!("{}: nobody asked for {left:?}", self.name))
        }
    }
}

/// Bytes written as groups of hex digits, or `XX*N` for one byte N times; `#` starts a comment.
fn parse_hex(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let code = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    for group in code.flat_map(str::split_whitespace) {
        let (digits, times) = group.split_once('*').unwrap_or((group, "1"));
        let times: usize = times.parse().map_err(|_| format!("{group}: no count"))?;
        let piece = hex::decode(digits).map_err(|error| format!("{group}: {error}"))?;
        if times != 1 && piece.len() != 1 {
            return Err(format!("{group}: only one byte can be repeated"));
        }
        bytes.extend(piece.repeat(times));
    }
    Ok(bytes)
}

/// All vectors of one runner, by name.
///
/// # Panics
/// Where the folder holds none for it, or a file that is no vector: nothing is passed over.
pub fn vectors(runner: Runner) -> Vec<Vector> {
    let mut found = all();
    found.retain(|vector| KINDS.contains(&(vector.kind.as_str(), runner)));
    assert!(!found.is_empty(), "no vectors for {runner:?}");
    found
}

/// Every vector in the folder.
///
/// # Panics
/// Where a file is no vector.
pub fn all() -> Vec<Vector> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut found: Vec<_> = files
        .map(|file| {
            file.unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
                .path()
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .map(|path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let read = std::fs::read_to_string(&path).map_err(|error| BadVector(error.to_string()));
            read.and_then(|text| Vector::parse(&name, &text))
                .unwrap_or_else(|why| panic!("{}: {why}", path.display()))
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "# why\nkind: pack\nexpect: short\nbytes: 42\n  4b*2 # twice\n\n  00\nnote: a: b # c\n";

    #[test]
    fn a_vector_is_read_with_its_comments_left_out_of_hex_alone() {
        let mut vector = Vector::parse("pack_x", GOOD).unwrap();
        assert_eq!((vector.kind.as_str(), vector.expect.as_str()), ("pack", "short"));
        assert_eq!(vector.bytes("bytes"), b"\x42\x4b\x4b\x00");
        assert_eq!(vector.text("note"), "a: b # c");
        assert_eq!(vector.judge(Err("short".to_owned())), Ok(()));
    }

    #[test]
    fn a_file_that_is_no_vector_is_refused_for_its_reason() {
        let parse = |name: &str, text: &str| Vector::parse(name, text).unwrap_err().to_string();
        assert_eq!(parse("pack_x", "expect: ok\n"), "no kind");
        assert_eq!(parse("pack_x", "kind: pack\n"), "no expect");
        assert_eq!(
            parse("pack_x", "kind: moon\nexpect: ok\n"),
            "kind moon is unknown"
        );
        assert_eq!(
            parse("pack_x", "kind: pack\nkind: pack\n"),
            "kind stands there twice"
        );
        assert_eq!(
            parse("pack_x", "  00\n"),
            "an indented line before the first field"
        );
        assert_eq!(parse("pack_x", "what\n"), "neither a field nor a comment: what");
        assert!(parse("moon_x", "kind: pack\nexpect: ok\n").contains("first word of pack"));
    }

    #[test]
    fn hex_that_is_none_is_refused() {
        for text in ["4", "zz", "00*", "0011*2", "00*-1"] {
            assert!(parse_hex(text).is_err(), "{text}");
        }
        assert_eq!(parse_hex(" # nothing"), Ok(vec![]));
    }

    #[test]
    fn whatever_differs_from_the_vector_is_said() {
        let good = Vector::parse("pack_x", GOOD).unwrap();
        let judged = |vector: &Vector, outcome| vector.clone().judge(outcome).unwrap_err();
        assert_eq!(
            judged(&good, Err("short".to_owned())),
            "pack_x: nobody asked for [\"bytes\", \"note\"]"
        );
        assert_eq!(judged(&good, Ok(vec![])), "pack_x: expected short, found ok");
        assert_eq!(
            judged(&good, Err("kind".to_owned())),
            "pack_x: expected short, found kind"
        );
        let success = Vector::parse("pack_x", &GOOD.replace("short", "ok")).unwrap();
        let found = vec![("note", "other".to_owned())];
        assert_eq!(
            judged(&success, Ok(found)),
            "pack_x: note: expected a: b # c, found other"
        );
    }
}
