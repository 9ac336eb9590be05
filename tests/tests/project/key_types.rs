//! I11: what holds a secret cannot be shown, copied or stored by accident. Read from the source, because a derive that
//! is there compiles.

/// What a key type must not be.
const EXPOSING: &[&str] = &[
    "Debug",
    "Display",
    "Clone",
    "Copy",
    "Default",
    "Serialize",
    "Hash",
    "PartialEq",
    "PartialOrd",
];

/// How the name of a type that holds a secret ends.
const SECRET_NAMES: &[&str] = &[
    "Secret",
    "Secrets",
    "Key",
    "Keys",
    "Root",
    "Seed",
    "Words",
    "Mnemonic",
    "Passphrase",
];

/// A type's name and the traits it derives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KeyType {
    pub(crate) name: String,
    derives: Vec<String>,
}

/// The types of a file that hold a secret: those that are wiped when dropped, hold something that is, or are called so.
/// A type without fields holds nothing.
pub(crate) fn key_types(source: &str) -> Vec<KeyType> {
    let source = with_derives_on_one_line(source);
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let mut found = Vec::new();
    let mut derives = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if let Some(list) = line.strip_prefix("#[derive(") {
            let list = list.trim_end_matches(")]").split(',');
            derives.extend(list.map(|name| name.trim().to_owned()));
        } else if let Some((name, tail)) = declared(line) {
            let body = lines
                .get(at + 1..)
                .unwrap_or_default()
                .iter()
                .take_while(|line| **line != "}");
            let wiped = derives.iter().any(|name| name.contains("Zeroize"))
                || tail.contains("Zeroizing<")
                || (tail.ends_with('{') && body.into_iter().any(|line| line.contains("Zeroizing<")));
            let derives = std::mem::take(&mut derives);
            if wiped || (called_secret(name) && tail != ";") {
                found.push(KeyType {
                    name: name.to_owned(),
                    derives,
                });
            }
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            derives.clear();
        }
    }
    found
}

/// Errors are called `BadSecret` and the like, and hold none.
fn called_secret(name: &str) -> bool {
    !name.starts_with("Bad") && SECRET_NAMES.iter().any(|end| name.ends_with(end))
}

fn with_derives_on_one_line(source: &str) -> String {
    let mut pieces = source.split("#[derive(");
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (list, rest) = piece.split_once(")]").unwrap_or((piece, ""));
        out.push_str("#[derive(");
        out.push_str(&list.split_whitespace().collect::<Vec<_>>().join(" "));
        out.push_str(")]");
        out.push_str(rest);
    }
    out
}

/// The name and the rest of a line that declares a struct or an enum.
fn declared(line: &str) -> Option<(&str, &str)> {
    let words = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
    let rest = words
        .strip_prefix("struct ")
        .or_else(|| words.strip_prefix("enum "))?;
    let end = rest
        .find(|c: char| !c.is_alphanumeric() && c != '_' && c != '$')
        .unwrap_or(rest.len());
    Some(rest.split_at(end))
}

/// Key types of a file that derive, or are given by hand, a trait that exposes them.
pub(crate) fn exposed(path: &str, source: &str) -> Vec<String> {
    let keys = key_types(source);
    let derived = keys.iter().flat_map(|key| {
        let names = key.derives.iter().filter_map(|name| name.rsplit("::").next());
        names.map(|name| (name, key.name.as_str()))
    });
    // A macro may declare the type, so a name is enough here.
    let by_hand = source
        .lines()
        .filter_map(implemented)
        .filter(|(_, of)| keys.iter().any(|key| key.name == *of) || called_secret(of));
    let all = derived.chain(by_hand).filter(|(name, _)| EXPOSING.contains(name));
    all.map(|(name, of)| format!("{path}: {of} is {name} (I11)"))
        .collect()
}

/// The trait and the type of a line like `impl fmt::Debug for Root {`.
fn implemented(line: &str) -> Option<(&str, &str)> {
    let (head, tail) = line.trim().strip_prefix("impl")?.split_once(" for ")?;
    let of = tail.split([' ', '<', '{']).next()?;
    Some((head.rsplit([' ', ':']).next()?, of.rsplit("::").next()?))
}

#[test]
fn a_key_type_is_known_by_its_wiping_its_fields_or_its_name() {
    let names = |source: &str| {
        key_types(source)
            .into_iter()
            .map(|key| key.name)
            .collect::<Vec<_>>()
    };
    assert_eq!(names("#[derive(Zeroize)]\npub struct Salt([u8; 4]);"), ["Salt"]);
    assert_eq!(
        names("#[derive(\n    Clone,\n    Zeroize,\n)]\npub struct Salt([u8; 4]);"),
        ["Salt"]
    );
    assert_eq!(
        names("struct Holder {\n    inner: Zeroizing<[u8; 32]>,\n}"),
        ["Holder"]
    );
    assert_eq!(names("pub struct Pair(Zeroizing<[u8; 32]>);"), ["Pair"]);
    assert_eq!(names("pub struct HsmSecret { bytes: Vec<u8> }"), ["HsmSecret"]);
    assert_eq!(names("pub enum Mnemonic {\n    Plain,\n}"), ["Mnemonic"]);
    assert_eq!(
        names("#[derive(Debug)]\npub enum BadSecret {\n    Short,\n}"),
        [""; 0]
    );
    assert_eq!(names("#[derive(Debug)]\npub struct NoSecret;"), [""; 0]);
    assert_eq!(
        names("#[derive(Zeroize)]\nfn between() {}\npub struct Plain(u8);"),
        [""; 0]
    );
}

#[test]
fn a_key_type_that_can_be_shown_or_copied_is_found() {
    for name in EXPOSING {
        let derived = format!("#[derive(Zeroize, {name})]\npub struct Root([u8; 32]);");
        assert_eq!(exposed("k.rs", &derived), [format!("k.rs: Root is {name} (I11)")]);
        let apart = format!("#[derive(serde::{name})]\n#[derive(Zeroize)]\npub struct Root([u8; 32]);");
        assert_eq!(exposed("k.rs", &apart), [format!("k.rs: Root is {name} (I11)")]);
        let by_hand = format!("pub struct Root([u8; 32]);\nimpl fmt::{name} for Root {{\n}}");
        assert_eq!(exposed("k.rs", &by_hand), [format!("k.rs: Root is {name} (I11)")]);
    }
    let in_macro = "key!(\n    /// Opens all.\n    RecordKey\n);\nimpl Clone for RecordKey {}";
    assert_eq!(exposed("k.rs", in_macro), ["k.rs: RecordKey is Clone (I11)"]);
    let clean = "#[derive(Zeroize, ZeroizeOnDrop)]\npub struct Root([u8; 32]);\nimpl Drop for Root {}\nimpl Clone for Other {}";
    assert_eq!(exposed("k.rs", clean), [""; 0]);
}
