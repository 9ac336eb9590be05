//! What must hold for the project as a whole: each rule is a function that finds faults in text, tried on bad samples
//! in its own file and run over the real tree here.

mod configuration;
mod dependencies;
mod documents;
mod key_types;
mod migrations;
mod rows;
mod source;
mod tree;

use tree::Tree;

/// Fails with one fault a line.
fn assert_clean(faults: impl IntoIterator<Item = String>) {
    let faults: Vec<_> = faults.into_iter().collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

fn read(path: &str) -> String {
    Tree::of_project().read(path)
}

#[test]
fn the_server_links_no_record_cipher() {
    assert_clean(dependencies::reached(
        &read("Cargo.lock"),
        "backstop-server",
        dependencies::CLIENT_ONLY,
    ));
}

#[test]
fn every_dependency_says_why_it_is_there() {
    assert_clean(dependencies::without_reason(&read("Cargo.toml")));
}

#[test]
fn members_take_dependencies_from_the_workspace_alone() {
    for file in Tree::of_project()
        .files("Cargo.toml")
        .filter(|file| file.path != "Cargo.toml")
    {
        assert_clean(dependencies::not_of_workspace(&file.path, &file.text));
    }
}

#[test]
fn an_alias_names_a_package_and_a_program_that_exist() {
    let tree = Tree::of_project();
    assert_clean(documents::dangling_aliases(
        &tree.read(".cargo/config.toml"),
        &tree,
    ));
}

#[test]
fn building_at_the_root_leaves_both_programs() {
    let manifest = read("Cargo.toml");
    assert!(manifest.contains("default-members = [\"client-plugin\", \"server\"]"));
}

#[test]
fn no_source_file_is_longer_than_one_thing() {
    let files = Tree::of_project().files(".rs").collect::<Vec<_>>();
    assert_clean(
        files
            .iter()
            .flat_map(|file| source::too_long(&file.path, &file.text)),
    );
}

#[test]
fn nothing_is_left_undone_ignored_or_tied_to_one_machine() {
    let files = Tree::of_project().all().collect::<Vec<_>>();
    assert_clean(
        files
            .iter()
            .flat_map(|file| source::forbidden(&file.path, &file.text)),
    );
}

#[test]
fn key_types_cannot_be_shown_copied_or_stored_by_accident() {
    let places = [
        "client-plugin/src/keys/",
        "client-plugin/src/cln/",
        "protocol/src/session",
    ];
    let mut seen = 0;
    for file in Tree::of_project()
        .files(".rs")
        .filter(|file| places.iter().any(|p| file.path.starts_with(p)))
    {
        seen += key_types::key_types(&file.text).len();
        assert_clean(key_types::exposed(&file.path, &file.text));
    }
    assert!(
        seen >= 5,
        "only {seen} key types were recognised: the check has lost sight of them"
    );
}

#[test]
fn an_applied_migration_never_changes() {
    let tree = Tree::of_project();
    for store in ["sqlite", "postgres"] {
        let folder = format!("migrations/{store}/");
        let there = tree.files(".sql").any(|file| file.path.starts_with(&folder));
        assert!(
            there,
            "{folder} holds no migration: the check has lost sight of it"
        );
        assert_clean(migrations::unlisted_or_changed(&folder, &tree));
    }
    assert_clean(migrations::changed_since_release(&tree));
}

#[test]
fn the_readme_names_folders_that_exist_and_every_member() {
    let tree = Tree::of_project();
    let readme = tree.read("README.md");
    assert_clean(documents::missing_paths(&readme, &tree));
    assert_clean(documents::unmapped_members(&readme, &tree.read("Cargo.toml")));
    assert_clean(documents::unknown_commands(
        &readme,
        &tree.read(".cargo/config.toml"),
    ));
}

#[test]
fn the_page_on_a_nodes_configuration_is_what_the_code_says() {
    let page = configuration::page(&read("client-plugin/src/directory/config.rs"));
    let there = Tree::of_project();
    let path = "docs/configuration.md";
    if std::env::var_os("BACKSTOP_WRITE_DOCS").is_some() {
        std::fs::write(there.root().join(path), &page).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    assert!(
        there.has(path) && there.read(path) == page,
        "run: BACKSTOP_WRITE_DOCS=1 cargo test -p backstop-tests --test project configuration"
    );
}

#[test]
fn every_section_that_a_comment_cites_is_in_the_specification() {
    let tree = Tree::of_project();
    let spec = tree.read("protocol/SPEC.md");
    assert_clean(
        tree.files(".rs")
            .flat_map(|file| documents::uncited_sections(&file.path, &file.text, &spec)),
    );
}

#[test]
fn every_row_of_the_table_of_starts_has_a_test_of_its_own() {
    let tree = Tree::of_project();
    let tests: Vec<_> = tree
        .files(".rs")
        .filter(|file| file.path.starts_with("tests/tests/"))
        .map(|file| (file.path, file.text))
        .collect();
    assert_clean(rows::untested(&tree.read("protocol/SPEC.md"), &tests));
}

#[test]
fn the_labels_of_derivations_are_the_same_in_code_and_specification() {
    let tree = Tree::of_project();
    let code: Vec<_> = tree
        .files(".rs")
        .filter(|file| file.path.starts_with("protocol/src/") || file.path.starts_with("client-plugin/src/"))
        .map(|file| file.text)
        .collect();
    assert_clean(documents::labels_that_differ(
        &code,
        &tree.read("protocol/SPEC.md"),
    ));
}

#[test]
fn every_kind_of_test_vector_has_a_runner() {
    let tree = Tree::of_project();
    let vectors = backstop_testvectors::all();
    let files = tree
        .files(".txt")
        .filter(|file| file.path.starts_with("protocol/testvectors/"))
        .count();
    assert_eq!(
        vectors.len(),
        files,
        "a vector in a folder of its own would not be walked"
    );
    let used: Vec<_> = vectors.iter().map(|vector| vector.kind.as_str()).collect();
    assert_clean(documents::kinds_without_runner(&used, &tree));
}
