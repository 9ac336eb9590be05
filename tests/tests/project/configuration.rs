//! The page on `backstop/config.toml`, made of the code that reads it: what each key is from the words above its field, what it is
//! without being said from the real defaults.

use backstop::{
    directory::{OutageConfig, RequireConfig, ShadowConfig},
    files::FileName,
};
use serde::Serialize;
use std::fmt::Write as _;

/// A field of a struct of the configuration.
#[derive(Debug, PartialEq, Eq)]
struct Field {
    key: String,
    /// Its type's name, as the code has it.
    kind: String,
    words: String,
    /// Whether the file must have it.
    needed: bool,
}

/// A struct of the configuration.
#[derive(Debug, PartialEq, Eq)]
struct Table {
    name: String,
    words: String,
    fields: Vec<Field>,
}

/// The structs of a source file, with their fields that a file can have.
fn tables(source: &str) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    let (mut words, mut attributes, mut inside) = (String::new(), String::new(), false);
    for line in source.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            words.push_str(text);
        } else if line.starts_with("#[") {
            attributes.push_str(line);
        } else {
            let words = std::mem::take(&mut words).trim().to_owned();
            let attributes = std::mem::take(&mut attributes);
            if let Some(name) = line
                .strip_prefix("pub struct ")
                .and_then(|rest| rest.strip_suffix(" {"))
            {
                inside = true;
                tables.push(Table {
                    name: name.to_owned(),
                    words,
                    fields: Vec::new(),
                });
            } else if line == "}" {
                inside = false;
            } else if let (true, Some((name, kind))) = (
                inside,
                line.strip_prefix("pub ").and_then(|rest| rest.split_once(": ")),
            ) {
                let renamed = attributes
                    .split_once("rename = \"")
                    .and_then(|(_, rest)| rest.split('"').next());
                let field = Field {
                    key: renamed.unwrap_or(name).to_owned(),
                    kind: kind.trim_end_matches(',').to_owned(),
                    words,
                    needed: !attributes.contains("default"),
                };
                if let Some(table) = tables.last_mut() {
                    table.fields.push(field);
                }
            }
        }
    }
    tables
}

/// A value as a file has it.
fn value(value: &impl Serialize) -> String {
    let value = toml::Value::try_from(value).unwrap_or_else(|error| panic!("{error}"));
    value.to_string()
}

/// The default of a key, as far as it has one.
fn default(table: &str, key: &str) -> Option<String> {
    let of = |defaults: toml::Value| defaults.get(key).map(ToString::to_string);
    let read = |error| panic!("{error}");
    match (table, key) {
        ("Config", "require") => Some(value(&RequireConfig::default())),
        ("Config", "files") => Some(value(&FileName::defaults())),
        ("OutageConfig", _) => of(toml::Value::try_from(OutageConfig::default()).unwrap_or_else(read)),
        ("ShadowConfig", _) => of(toml::Value::try_from(ShadowConfig::default()).unwrap_or_else(read)),
        _ => None,
    }
}

/// The page.
pub(crate) fn page(source: &str) -> String {
    let tables = tables(source);
    let root = tables.iter().find(|table| table.name == "Config");
    let root = root.unwrap_or_else(|| panic!("no Config: the page has lost sight of it"));
    let mut page = "# Configuration of a node's backup

`backstop setup` writes `backstop/config.toml` into the network's directory, and whoever runs the node may change what is not signed or pinned
there. The plugin reads it at its start. It is TOML; a key that it does not know, or a value that it does not understand, halts the node with a
sentence, and is never taken for a default.

Settings of a server are [elsewhere](../deploy/configuration.md). This page is made of the code; a test keeps it so.
"
    .to_owned();
    let part = |page: &mut String, heading: &str, table: &Table, leave: &[&str]| {
        let whole = |field: &Field| field.needed && default(&table.name, &field.key).is_some();
        let whole = if table.fields.iter().any(whole) {
            " Where it is there at all, it has all of its keys."
        } else {
            ""
        };
        let words = &table.words;
        let _ = write!(
            page,
            "\n## {heading}\n\n{words}{whole}\n\n| key | default | what |\n|---|---|---|\n"
        );
        for field in table
            .fields
            .iter()
            .filter(|field| !leave.contains(&field.key.as_str()))
        {
            let (key, words) = (&field.key, &field.words);
            let default = match default(&table.name, key) {
                Some(default) => format!("`{default}`"),
                None if field.needed => "written by setup".to_owned(),
                None => "none".to_owned(),
            };
            let _ = writeln!(page, "| `{key}` | {default} | {words} |");
        }
    };
    let below = |field: &Field| {
        let name = field.kind.trim_start_matches("Vec<").trim_end_matches('>');
        tables.iter().find(|table| table.name == name)
    };
    let parts: Vec<_> = root
        .fields
        .iter()
        .filter(|field| below(field).is_some())
        .collect();
    let leave: Vec<&str> = parts.iter().map(|field| field.key.as_str()).collect();
    part(&mut page, "At the top", root, &leave);
    for field in parts {
        let heading = if field.kind.starts_with("Vec<") {
            format!("`[[{}]]`", field.key)
        } else {
            format!("`[{}]`", field.key)
        };
        if let Some(table) = below(field) {
            part(&mut page, &heading, table, &[]);
        }
    }
    page
}

#[test]
fn fields_are_read_with_their_words_and_names() {
    let source = "/// All\n/// of it.\n#[derive(Debug)]\npub struct Config {\n    /// One.\n    pub one: u8,\n    /// Two\n    /// words.\n    #[serde(default, rename = \"second\")]\n    pub two: Vec<Two>,\n}\n\nfn f() {\n    pub_three: 3,\n}\n";
    let field = |key: &str, kind: &str, words: &str, needed| Field {
        key: key.to_owned(),
        kind: kind.to_owned(),
        words: words.to_owned(),
        needed,
    };
    assert_eq!(
        tables(source),
        [Table {
            name: "Config".to_owned(),
            words: "All of it.".to_owned(),
            fields: vec![
                field("one", "u8", "One.", true),
                field("second", "Vec<Two>", "Two words.", false)
            ],
        }]
    );
}
