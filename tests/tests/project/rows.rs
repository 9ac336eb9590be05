//! The rows of the table in SPEC 8.3 and the tests that are marked with their names: a line `/// V7` above `#[test]`.

use std::collections::BTreeSet;

/// Rows without a test, marks without a row, and marks above anything else than a test.
pub(crate) fn untested(spec: &str, tests: &[(String, String)]) -> Vec<String> {
    let rows: BTreeSet<&str> = spec
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next())
        .filter(|word| is_row(word))
        .collect();
    let mut faults = Vec::new();
    if rows.is_empty() {
        faults.push("SPEC has no row V1: the check has lost sight of the table".to_owned());
    }
    let mut tested = BTreeSet::new();
    for (path, text) in tests {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (line, next) in lines.iter().zip(lines.iter().skip(1)) {
            let mark = line.strip_prefix("/// ").filter(|mark| is_row(mark));
            let Some(mark) = mark else { continue };
            if *next != "#[test]" {
                faults.push(format!("{path}: {mark} stands above no test"));
            } else if rows.contains(mark) {
                tested.insert(mark);
            } else {
                faults.push(format!("{path}: SPEC has no row {mark}"));
            }
        }
    }
    faults.extend(
        rows.difference(&tested)
            .map(|row| format!("row {row} of SPEC 8.3 has no test")),
    );
    faults
}

fn is_row(word: &str) -> bool {
    word.strip_prefix('V')
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[test]
fn a_row_without_a_test_and_a_mark_without_a_row_are_found() {
    let spec = "| row | server |\n|---|---|\n| V1 | no |\n| V2 | yes |\n";
    let tests = |text: &str| vec![("a.rs".to_owned(), text.to_owned())];
    let both = "/// V1\n#[test]\nfn a() {}\n/// V2\n#[test]\nfn b() {}\n";
    assert_eq!(untested(spec, &tests(both)), [""; 0]);
    let one = "/// V1\n#[test]\nfn a() {}\n/// V2\nfn b() {}\n/// V3\n#[test]\nfn c() {}\n";
    assert_eq!(
        untested(spec, &tests(one)),
        [
            "a.rs: V2 stands above no test",
            "a.rs: SPEC has no row V3",
            "row V2 of SPEC 8.3 has no test"
        ]
    );
    assert_eq!(untested("nothing", &tests("")).len(), 1);
}
