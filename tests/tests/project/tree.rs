//! The project's files, without what is built or fetched.

use std::path::{Path, PathBuf};

/// Folders that hold nothing written by hand.
const NOT_OURS: &[&str] = &[".git", "target", "node_modules"];

/// A folder and everything in it.
pub(crate) struct Tree {
    root: PathBuf,
}

/// One text file.
pub(crate) struct File {
    /// From the project's root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Tree {
    pub(crate) fn of_project() -> Self {
        Self::at(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")))
    }

    pub(crate) fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Every file that is text, by path.
    pub(crate) fn all(&self) -> impl Iterator<Item = File> {
        let mut found = Vec::new();
        walk(&self.root, "", &mut found);
        found.sort();
        found.into_iter().filter_map(|path| {
            let text = std::fs::read_to_string(self.root.join(&path)).ok()?;
            Some(File { path, text })
        })
    }

    /// Every text file whose path ends like this.
    pub(crate) fn files(&self, end: &str) -> impl Iterator<Item = File> {
        self.all().filter(move |file| file.path.ends_with(end))
    }
}

fn walk(folder: &Path, prefix: &str, found: &mut Vec<String>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let entry = entry.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if NOT_OURS.contains(&name.as_str()) {
            continue;
        }
        // Links are not followed: what they point to is either here too, or not ours.
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), &format!("{path}/"), found),
            Ok(kind) if kind.is_file() => found.push(path),
            _ => {}
        }
    }
}

#[test]
fn a_tree_shows_its_text_files_and_passes_over_what_is_built() {
    let dir = tempfile::tempdir().unwrap();
    for path in ["a/b.rs", "target/c.rs", ".ci/run"] {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }
    std::fs::write(dir.path().join("binary"), b"\xff\x00").unwrap();
    let tree = Tree::at(dir.path());
    assert_eq!(
        tree.all().map(|file| file.path).collect::<Vec<_>>(),
        [".ci/run", "a/b.rs"]
    );
    assert_eq!(tree.files(".rs").count(), 1);
    assert!(tree.has("a/b.rs") && !tree.has("a/c.rs"));
}
