//! `migrations/` is append-only: a server has applied what was released, and compares.

use crate::tree::Tree;
use backstop_protocol::hash::sha256;
use std::process::Command;

/// The list that stands beside the migrations of one store: `<sha256>  <file>`, as sha256sum writes it.
const LIST: &str = "CHECKSUMS";

/// Migrations of a folder that its list does not name, names with another hash, names out of order, or that are gone.
pub(crate) fn unlisted_or_changed(folder: &str, tree: &Tree) -> Vec<String> {
    let present: Vec<_> = tree
        .files(".sql")
        .filter_map(|file| {
            let name = file.path.strip_prefix(folder)?.to_owned();
            Some(format!("{}  {name}", hex::encode(sha256(file.text.as_bytes()))))
        })
        .collect();
    let list = format!("{folder}{LIST}");
    if !tree.has(&list) {
        return vec![format!(
            "{list} is missing; it should hold\n{}",
            present.join("\n")
        )];
    }
    let listed = tree.read(&list);
    let listed: Vec<_> = listed.lines().collect();
    let gone = listed.iter().filter(|line| !present.iter().any(|p| p == *line));
    let new = present.iter().filter(|line| !listed.contains(&line.as_str()));
    let mut faults: Vec<_> = gone
        .map(|line| format!("{list}: no file is this any more: {line}"))
        .chain(new.map(|line| format!("{list}: not listed: {line}")))
        .collect();
    if faults.is_empty() && listed != present {
        faults.push(format!(
            "{list}: not in the order in which they are applied, or twice"
        ));
    }
    faults
}

/// Migrations that any released version (a tag that starts with `v`) has otherwise. Without git there is no history to
/// look at, and the list above is what remains.
#[expect(clippy::print_stdout, reason = "a check that did not run says so")]
pub(crate) fn changed_since_release(tree: &Tree) -> Vec<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git")
            .arg("-C")
            .arg(tree.root())
            .args(args)
            .output()
            .ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let Some(tags) = git(&["tag", "--list", "v*"]) else {
        println!("no history here: released migrations are not compared");
        return vec![];
    };
    let mut faults = Vec::new();
    for tag in tags.lines() {
        // Everything but an added file.
        let differ = [
            "diff",
            "--name-only",
            "--diff-filter=a",
            "--no-renames",
            tag,
            "--",
            "migrations/*.sql",
        ];
        let differ = git(&differ).unwrap_or_else(|| format!("tag {tag} cannot be read"));
        faults.extend(differ.lines().map(|path| format!("{path}: differs from {tag}")));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("migrations/sqlite")).unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join("migrations/sqlite").join(name), text).unwrap();
        }
        dir
    }

    fn faults(files: &[(&str, &str)]) -> String {
        let dir = folder(files);
        unlisted_or_changed("migrations/sqlite/", &Tree::at(dir.path())).join("\n")
    }

    #[test]
    fn a_migration_that_changed_or_is_not_listed_is_found() {
        let list = format!("{EMPTY}  0001_a.sql\n");
        assert_eq!(faults(&[("0001_a.sql", ""), (LIST, &list)]), "");
        assert!(faults(&[("0001_a.sql", "")]).contains("CHECKSUMS is missing"));
        assert!(faults(&[("0001_a.sql", " "), (LIST, &list)]).contains("no file is this any more"));
        assert!(faults(&[(LIST, &list)]).contains("no file is this any more"));
        assert!(faults(&[("0001_a.sql", ""), ("0002_b.sql", ""), (LIST, &list)]).contains("not listed"));
        let turned = format!("{EMPTY}  0002_b.sql\n{EMPTY}  0001_a.sql\n");
        assert!(faults(&[("0001_a.sql", ""), ("0002_b.sql", ""), (LIST, &turned)]).contains("order"));
    }

    fn git(root: &Path, args: &[&str]) {
        let name = [
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.org",
            "-c",
            "commit.gpgsign=false",
        ];
        let status = Command::new("git")
            .arg("-C")
            .arg(root)
            .args(name)
            .args(args)
            .output()
            .unwrap()
            .status;
        assert!(status.success(), "git {args:?}");
    }

    #[test]
    fn a_released_migration_that_changed_or_went_is_found_and_a_new_one_is_none() {
        let dir = folder(&[("0001_a.sql", "a"), ("0002_b.sql", "b")]);
        let (root, migrations) = (dir.path(), dir.path().join("migrations/sqlite"));
        git(root, &["init", "--quiet"]);
        git(root, &["add", "."]);
        git(root, &["commit", "--quiet", "-m", "one"]);
        git(root, &["tag", "v1"]);
        std::fs::write(migrations.join("0003_c.sql"), "c").unwrap();
        assert_eq!(changed_since_release(&Tree::at(root)), [""; 0]);
        std::fs::write(migrations.join("0001_a.sql"), "other").unwrap();
        std::fs::remove_file(migrations.join("0002_b.sql")).unwrap();
        let found = changed_since_release(&Tree::at(root));
        assert_eq!(
            found,
            [
                "migrations/sqlite/0001_a.sql: differs from v1",
                "migrations/sqlite/0002_b.sql: differs from v1"
            ]
        );
    }

    #[test]
    fn without_history_there_is_nothing_to_compare() {
        let dir = folder(&[]);
        assert_eq!(changed_since_release(&Tree::at(dir.path())), [""; 0]);
    }
}
