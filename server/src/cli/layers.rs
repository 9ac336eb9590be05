//! Where a setting's value comes from: the flag, else the environment, else the file, else the default.
//!
//! clap knows the first two and the last. What the file says takes the place of the defaults before the command line is
//! parsed, so that every value is read by the same parser, wherever it stands.

use super::{Cli, file::File};
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory as _, FromArgMatches as _};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

/// What begins the name of every environment variable.
const PREFIX: &str = "BACKSTOP_SERVER_";

/// The file that is read where none is named, if it exists.
pub(super) const DEFAULT_FILE: &str = "/etc/backstop-server/config.toml";

/// The command line as all layers give it.
pub(super) struct Layered {
    pub(super) cli: Cli,
    /// The file that was read.
    pub(super) file: Option<PathBuf>,
    /// Every setting with its values as text.
    pub(super) values: BTreeMap<String, Vec<OsString>>,
}

/// Why there is no command line.
#[derive(Debug, thiserror::Error)]
pub(super) enum LayerError {
    /// Flags or environment are wrong, or help was asked for.
    #[error(transparent)]
    Line(#[from] clap::Error),
    /// The file is.
    #[error(transparent)]
    File(#[from] super::file::FileError),
}

/// Reads them all.
pub(super) fn read(arguments: &[OsString]) -> Result<Layered, LayerError> {
    let plain = with_environment(Cli::command());
    let path = named_file(plain.clone(), arguments).or_else(|| {
        let default = Path::new(DEFAULT_FILE);
        default.exists().then(|| default.to_owned())
    });
    let file = path.as_deref().map(File::read).transpose()?;
    let command = match &file {
        Some(file) => file.over(plain)?,
        None => plain,
    };
    let matches = command.try_get_matches_from(arguments)?;
    Ok(Layered {
        cli: Cli::from_arg_matches(&matches)?,
        file: path,
        values: values(&matches),
    })
}

/// The settings: what `serve` can be told, but for the file itself.
pub(super) fn settings(command: &Command) -> impl Iterator<Item = &Arg> {
    command
        .find_subcommand("serve")
        .into_iter()
        .flat_map(Command::get_arguments)
        .filter(|arg| key(arg).is_some())
}

/// The name of a setting, if it is one.
pub(super) fn key(arg: &Arg) -> Option<&str> {
    arg.get_long()
        .filter(|long| !["config", "help", "version"].contains(long))
}

/// Whether a setting takes several values.
pub(super) fn many(setting: &Arg) -> bool {
    matches!(setting.get_action(), ArgAction::Append)
}

/// The environment variable of a flag.
pub(super) fn variable(long: &str) -> String {
    format!("{PREFIX}{}", long.to_ascii_uppercase().replace('-', "_"))
}

/// Lets every flag that is a setting be given by its variable too, in whatever subcommand it is.
pub(super) fn with_environment(command: Command) -> Command {
    let mut names: Vec<String> = settings(&command).filter_map(key).map(str::to_owned).collect();
    names.push("config".to_owned());
    every(command, &|arg| match arg.get_long() {
        Some(long) if names.iter().any(|name| name == long) => {
            let mut name = variable(long);
            if long == "log" && std::env::var_os(&name).is_none() && std::env::var_os("RUST_LOG").is_some() {
                "RUST_LOG".clone_into(&mut name);
            }
            arg.env(name).hide_env(true)
        }
        _ => arg,
    })
}

/// Changes every argument of a command and of all below it.
pub(super) fn every(command: Command, change: &dyn Fn(Arg) -> Arg) -> Command {
    command
        .mut_args(change)
        .mut_subcommands(|below| every(below, change))
}

/// The file that flag or environment name, before anything else is judged.
fn named_file(command: Command, arguments: &[OsString]) -> Option<PathBuf> {
    // Help was asked for, or nothing that makes sense: both are said later.
    let matches = command.ignore_errors(true).try_get_matches_from(arguments).ok()?;
    deepest(&matches).get_one::<PathBuf>("config").cloned()
}

fn deepest(mut matches: &ArgMatches) -> &ArgMatches {
    while let Some((_, below)) = matches.subcommand() {
        matches = below;
    }
    matches
}

fn values(matches: &ArgMatches) -> BTreeMap<String, Vec<OsString>> {
    let matches = deepest(matches);
    let value = |id: &clap::Id| {
        let values = matches.get_raw(id.as_str()).into_iter().flatten();
        (id.to_string(), values.map(ToOwned::to_owned).collect())
    };
    matches.ids().map(value).collect()
}
