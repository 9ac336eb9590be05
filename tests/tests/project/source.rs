//! Rules on the text of source files.

/// Most lines of a Rust file.
const LINES_MAX: usize = 400;
/// Most lines of one that holds tests alone: many short things in a row.
const TEST_LINES_MAX: usize = 700;

pub(crate) fn too_long(path: &str, text: &str) -> Vec<String> {
    let tests_alone = path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("tests.rs");
    let most = if tests_alone { TEST_LINES_MAX } else { LINES_MAX };
    let lines = text.lines().count();
    let fault = (lines > most).then(|| format!("{path}: {lines} lines, {most} are the most"));
    fault.into_iter().collect()
}

/// What no file may hold, put together here so that this file does not hold it either.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("to", "do!("), "a stub"),
    (concat!("unimple", "mented!("), "a stub"),
    (concat!("FIX", "ME"), "left undone"),
    (concat!("TO", "DO"), "left undone"),
    (concat!("XX", "X"), "left undone"),
    (concat!("To be ", "written"), "left undone"),
    (concat!("#[", "ignore"), "a test that does not run"),
    (
        concat!("#[", "allow("),
        "an exception without a reason: use expect",
    ),
    (concat!("dbg", "!("), "a trace of debugging"),
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("/ro", "ot/"), "a path of one machine"),
    (concat!("index.", "crates.io"), "a registry's host"),
    (concat!("static.", "crates.io"), "a registry's host"),
    (concat!("pypi.", "org"), "a registry's host"),
    (concat!("deb.", "debian.org"), "a registry's host"),
];

/// The only file that is generated.
const GENERATED: &str = "Cargo.lock";

pub(crate) fn forbidden(path: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|_| path != GENERATED) {
        for (word, why) in FORBIDDEN.iter().filter(|(word, _)| starts_in(line, word)) {
            faults.push(format!("{path}:{}: {word}: {why}", number + 1));
        }
    }
    faults
}

/// Whether a line holds a word that is not the end of a longer one.
fn starts_in(line: &str, word: &str) -> bool {
    let mut places = line.match_indices(word);
    places.any(|(at, _)| {
        !line
            .get(..at)
            .unwrap_or_default()
            .ends_with(|c: char| c.is_alphanumeric())
    })
}

#[test]
fn a_file_one_line_too_long_is_found() {
    let lines = |count| "x\n".repeat(count);
    assert_eq!(too_long("a/src/b.rs", &lines(LINES_MAX)), [""; 0]);
    assert_eq!(
        too_long("a/src/b.rs", &lines(LINES_MAX + 1)),
        ["a/src/b.rs: 401 lines, 400 are the most"]
    );
    for path in ["a/src/b/tests.rs", "a/tests/b.rs", "tests/src/b.rs"] {
        assert_eq!(too_long(path, &lines(TEST_LINES_MAX)), [""; 0]);
        assert_eq!(too_long(path, &lines(TEST_LINES_MAX + 1)).len(), 1);
    }
}

#[test]
fn every_forbidden_word_is_found_with_its_line() {
    for (word, why) in FORBIDDEN {
        let text = format!("fine\nnot {word} fine\n");
        assert_eq!(forbidden("a.rs", &text), [format!("a.rs:2: {word}: {why}")]);
        assert_eq!(forbidden(GENERATED, &text), [""; 0]);
    }
    assert_eq!(
        forbidden("a.rs", "no work, no root, v1/root/bitcoin, a method\n"),
        [""; 0]
    );
}
