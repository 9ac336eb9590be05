//! Rules on what the documents and settings say about the code.

use crate::tree::Tree;
use backstop_testvectors::{KINDS, Runner};
use std::collections::BTreeSet;

/// What `.cargo/config.toml` or the workspace's manifest says, as far as it is read here.
#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct Settings {
    alias: std::collections::BTreeMap<String, String>,
    workspace: Workspace,
}

#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct Workspace {
    members: Vec<String>,
}

fn settings(text: &str) -> Settings {
    toml::from_str(text).unwrap_or_else(|error| panic!("{error}"))
}

/// Aliases whose package or program does not exist.
pub(crate) fn dangling_aliases(config: &str, tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for (alias, command) in settings(config).alias {
        let words: Vec<_> = command.split(' ').collect();
        let after = |option: &str| words.iter().skip_while(|word| **word != option).nth(1).copied();
        let (package, program) = (
            after("--package").unwrap_or_default(),
            after("--bin").unwrap_or_default(),
        );
        let manifest = tree
            .files("Cargo.toml")
            .find(|file| file.text.contains(&format!("name = \"{package}\"")));
        let Some(manifest) = manifest else {
            faults.push(format!("cargo {alias}: no package {package}"));
            continue;
        };
        let folder = manifest.path.trim_end_matches("Cargo.toml");
        if !tree.has(&format!("{folder}src/bin/{program}.rs")) {
            faults.push(format!("cargo {alias}: {package} has no program {program}"));
        }
    }
    faults
}

/// Relative links that lead nowhere.
pub(crate) fn missing_paths(readme: &str, tree: &Tree) -> Vec<String> {
    let links = readme
        .split("](")
        .skip(1)
        .filter_map(|tail| tail.split(')').next());
    let links = links.filter(|link| !link.contains("://") && !link.starts_with('#'));
    let named = links.map(|path| path.split('#').next().unwrap_or_default());
    named
        .filter(|path| !tree.has(path))
        .map(|path| format!("README.md: {path} does not exist"))
        .collect()
}

/// Top folders of the workspace's members, and of what else is written by hand, that the map leaves out.
pub(crate) fn unmapped_members(readme: &str, manifest: &str) -> Vec<String> {
    let members = settings(manifest).workspace.members;
    let tops: BTreeSet<_> = members
        .iter()
        .filter_map(|member| member.split('/').next())
        .collect();
    let all = tops.into_iter().chain(["migrations", "deploy"]);
    let mapped = |top: &str| {
        let row = format!("| [{top}/]({top}/) |");
        readme.lines().any(|line| line.starts_with(&row))
    };
    let left_out = all.filter(|top| !mapped(top));
    left_out
        .map(|top| format!("README.md: the map leaves out {top}/"))
        .collect()
}

/// What cargo can do without this project's aliases.
const CARGO: &[&str] = &["build", "clippy", "deny", "doc", "fmt", "install", "run", "test"];

/// Commands in the README's blocks of code that cargo does not know.
pub(crate) fn unknown_commands(readme: &str, config: &str) -> Vec<String> {
    let aliases = settings(config).alias;
    let mut inside = false;
    let mut faults = Vec::new();
    for line in readme.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        }
        let Some(rest) = line
            .trim_start()
            .trim_start_matches("$ ")
            .strip_prefix("cargo ")
            .filter(|_| inside)
        else {
            continue;
        };
        let command = rest.split(' ').next().unwrap_or_default();
        if !CARGO.contains(&command) && !aliases.contains_key(command) {
            faults.push(format!("README.md: cargo {command} is no command"));
        }
    }
    faults
}

/// Sections that a source file cites as `SPEC 4.3` and the specification does not have.
pub(crate) fn uncited_sections(path: &str, source: &str, spec: &str) -> Vec<String> {
    let headings: BTreeSet<_> = spec
        .lines()
        .filter_map(|line| {
            line.strip_prefix('#')?
                .trim_start_matches('#')
                .trim()
                .split(' ')
                .next()
        })
        .map(|number| number.trim_end_matches('.'))
        .collect();
    let mut faults = Vec::new();
    for tail in source.split("SPEC ").skip(1) {
        let list = tail
            .find(|c: char| !c.is_ascii_digit() && !" .,".contains(c))
            .unwrap_or(tail.len());
        let (list, _) = tail.split_at(list);
        for section in list.split([' ', ',']).map(|number| number.trim_end_matches('.')) {
            if !section.is_empty() && !headings.contains(section) {
                faults.push(format!("{path}: SPEC has no section {section}"));
            }
        }
    }
    faults
}

/// Labels under which keys are derived and texts are signed, that stand on one side alone.
pub(crate) fn labels_that_differ(code: &[String], spec: &str) -> Vec<String> {
    fn labels(text: &str) -> BTreeSet<&str> {
        let tails = text.split("backstop/v1/").skip(1);
        let word = |tail: &'_ str| {
            tail.find(|c: char| !c.is_ascii_lowercase() && c != '-')
                .unwrap_or(tail.len())
        };
        tails
            .map(|tail| tail.split_at(word(tail)).0)
            .filter(|label| !label.is_empty())
            .collect()
    }
    let code: BTreeSet<_> = code.iter().flat_map(|text| labels(text)).collect();
    let spec = labels(spec);
    let only_code = code
        .difference(&spec)
        .map(|label| format!("SPEC.md does not name backstop/v1/{label}"));
    let only_spec = spec
        .difference(&code)
        .map(|label| format!("no code uses backstop/v1/{label} of SPEC.md"));
    only_code.chain(only_spec).collect()
}

/// Kinds of vectors in use whose runner does not exist.
pub(crate) fn kinds_without_runner(used: &[&str], tree: &Tree) -> Vec<String> {
    let mut faults = BTreeSet::new();
    for (kind, runner) in KINDS.iter().filter(|(kind, _)| used.contains(kind)) {
        let file = match runner {
            Runner::Protocol => "protocol/tests/vectors.rs",
            Runner::Client => "client-plugin/tests/vectors.rs",
        };
        if !tree.has(file) || !tree.read(file).contains(&format!("\"{kind}\"")) {
            faults.insert(format!("{file} does not run vectors of kind {kind}"));
        }
    }
    faults.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn an_alias_that_leads_nowhere_is_found() {
        let dir = folder(&[("t/Cargo.toml", "name = \"p\""), ("t/src/bin/b.rs", "")]);
        let tree = Tree::at(dir.path());
        let faults = |command: &str| dangling_aliases(&format!("[alias]\na = \"{command}\""), &tree);
        assert_eq!(faults("run --package p --bin b --"), [""; 0]);
        assert_eq!(faults("run --package p --bin c"), ["cargo a: p has no program c"]);
        assert_eq!(faults("run --package q --bin b"), ["cargo a: no package q"]);
    }

    #[test]
    fn a_readme_that_names_what_is_not_there_is_found() {
        let dir = folder(&[("server/a.md", "")]);
        let tree = Tree::at(dir.path());
        let good = "[a](server/a.md#x) [b](https://example.org) [c](#part) [d](server/)\n";
        assert_eq!(missing_paths(good, &tree), [""; 0]);
        assert_eq!(
            missing_paths("[a](b.md)", &tree),
            ["README.md: b.md does not exist"]
        );
    }

    #[test]
    fn a_folder_that_the_map_leaves_out_is_found() {
        let manifest = "[workspace]\nmembers = [\"server\", \"protocol/x\"]";
        let map = "| [server/](server/) |\n| [protocol/](protocol/) |\n| [migrations/](migrations/) | [deploy/](deploy/) |\n";
        assert_eq!(
            unmapped_members(map, manifest),
            ["README.md: the map leaves out deploy/"]
        );
    }

    #[test]
    fn a_command_that_cargo_does_not_know_is_found_in_code_alone() {
        let config = "[alias]\ndemo = \"run\"";
        assert_eq!(
            unknown_commands(
                "```\ncargo demo\ncargo build --release\n```\ncargo moon\n",
                config
            ),
            [""; 0]
        );
        assert_eq!(
            unknown_commands("```\n$ cargo moon x\n```\n", config),
            ["README.md: cargo moon is no command"]
        );
    }

    #[test]
    fn a_citation_of_a_section_that_is_not_there_is_found() {
        let spec = "# Title\n## 4 Sessions\n### 4.1 Grants\n";
        assert_eq!(
            uncited_sections("a.rs", "(SPEC 4, 4.1). SPEC 4.1, and SPEC 4.", spec),
            [""; 0]
        );
        let cited = format!("SPEC {}", "4.1, 4.2");
        assert_eq!(
            uncited_sections("a.rs", &cited, spec),
            ["a.rs: SPEC has no section 4.2"]
        );
    }

    #[test]
    fn a_label_on_one_side_alone_is_found() {
        let code = ["b\"backstop/v1/one\"".to_owned(), "backstop/v1/two\\0".to_owned()];
        assert_eq!(
            labels_that_differ(&code, "`backstop/v1/one` `backstop/v1/two`"),
            [""; 0]
        );
        assert_eq!(
            labels_that_differ(&code, "`backstop/v1/one` `backstop/v1/three`"),
            [
                "SPEC.md does not name backstop/v1/two",
                "no code uses backstop/v1/three of SPEC.md"
            ]
        );
    }

    #[test]
    fn a_kind_of_vector_that_nobody_runs_is_found() {
        let dir = folder(&[("protocol/tests/vectors.rs", "\"pack\" => pack(),")]);
        let tree = Tree::at(dir.path());
        assert_eq!(kinds_without_runner(&["pack"], &tree), [""; 0]);
        assert_eq!(
            kinds_without_runner(&["frames", "chunk"], &tree),
            [
                "client-plugin/tests/vectors.rs does not run vectors of kind chunk",
                "protocol/tests/vectors.rs does not run vectors of kind frames"
            ]
        );
    }
}
