//! Rules on Cargo.toml and Cargo.lock.

use std::collections::{BTreeMap, BTreeSet};

/// What only a client may link (I10): what opens records, and what opens a node's secret.
pub(crate) const CLIENT_ONLY: &[&str] = &["backstop", "chacha20poly1305", "poly1305", "argon2", "bip39"];

#[derive(serde::Deserialize)]
struct Lock {
    package: Vec<Package>,
}

#[derive(serde::Deserialize)]
struct Package {
    name: String,
    #[serde(default)]
    dependencies: Vec<String>,
}

/// Which of `forbidden` can be reached from `root` in a lock file. Versions are not told apart, and dependencies of
/// tests count too: the answer errs on the strict side.
pub(crate) fn reached(lock: &str, root: &str, forbidden: &[&str]) -> Vec<String> {
    let lock: Lock = toml::from_str(lock).unwrap_or_else(|error| panic!("Cargo.lock: {error}"));
    let mut edges = BTreeMap::<&str, Vec<&str>>::new();
    for package in &lock.package {
        let named = package
            .dependencies
            .iter()
            .filter_map(|entry| entry.split(' ').next());
        edges.entry(&package.name).or_default().extend(named);
    }
    if !edges.contains_key(root) {
        return vec![format!("{root} is not in Cargo.lock")];
    }
    let mut seen = BTreeSet::from([root]);
    let mut open = vec![root];
    while let Some(name) = open.pop() {
        for next in edges.get(name).into_iter().flatten() {
            if seen.insert(next) {
                open.push(next);
            }
        }
    }
    let found = forbidden.iter().filter(|name| seen.contains(*name));
    found.map(|name| format!("{root} links {name}")).collect()
}

/// Workspace dependencies without a comment above them or above their group. Our own crates speak for themselves.
pub(crate) fn without_reason(manifest: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut reason = false;
    let section = manifest
        .lines()
        .skip_while(|line| *line != "[workspace.dependencies]")
        .skip(1);
    for line in section.take_while(|line| !line.starts_with('[')) {
        if line.is_empty() {
            reason = false;
        } else if line.starts_with('#') {
            // "# --- Data" heads a part; it is no reason for any one of its crates.
            reason = !line.starts_with("# ---");
        } else if !reason && line.contains(" = ") && !line.contains("path = ") {
            faults.push(format!("Cargo.toml: no reason: {line}"));
        }
    }
    faults
}

/// Dependencies of a member that name a version of their own.
pub(crate) fn not_of_workspace(path: &str, manifest: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
        } else if inside && line.contains('=') && !line.contains("workspace = true") {
            faults.push(format!("{path}: not of the workspace: {line}"));
        }
    }
    faults
}

#[test]
fn a_forbidden_crate_is_found_however_deep() {
    let lock = r#"
        [[package]]
        name = "backstop-server"
        dependencies = ["a 1.0.0", "b"]
        [[package]]
        name = "a"
        dependencies = ["b", "backstop-server"]
        [[package]]
        name = "b"
        dependencies = ["poly1305 0.9.1"]
        [[package]]
        name = "poly1305"
        [[package]]
        name = "argon2"
    "#;
    assert_eq!(
        reached(lock, "backstop-server", CLIENT_ONLY),
        ["backstop-server links poly1305"]
    );
    assert_eq!(reached(lock, "argon2", CLIENT_ONLY), ["argon2 links argon2"]);
    assert_eq!(reached(lock, "moon", CLIENT_ONLY), ["moon is not in Cargo.lock"]);
}

#[test]
fn a_dependency_without_reason_is_found() {
    let head = "[workspace.dependencies]\nown = { path = \"own\" }\n\n# --- Part\n";
    let bare = format!("{head}serde = \"1\"\n");
    let reasoned = format!("{head}# Why.\nserde = \"1\"\nserde_json = \"1\"\n\n[profile.dev]\ndebug = 1\n");
    let beyond = format!("{head}# Why.\nserde = \"1\"\n\ntoml = \"1\"\n");
    assert_eq!(without_reason(&bare), ["Cargo.toml: no reason: serde = \"1\""]);
    assert_eq!(without_reason(&reasoned), [""; 0]);
    assert_eq!(without_reason(&beyond), ["Cargo.toml: no reason: toml = \"1\""]);
}

#[test]
fn a_version_in_a_member_is_found() {
    let member = "[package]\nversion = \"1\"\n[dependencies]\na.workspace = true\nb = \"2\"\n[lints]\nworkspace = true\n";
    assert_eq!(
        not_of_workspace("m", member),
        ["m: not of the workspace: b = \"2\""]
    );
    let dotted = "[dev-dependencies]\nc = { workspace = true, features = [] }\n";
    assert_eq!(not_of_workspace("m", dotted), [""; 0]);
}
