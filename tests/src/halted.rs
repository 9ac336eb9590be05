//! The last word of a node that does not start, and what a person types then.

use crate::{
    lightningd::FailedStart,
    node::{Spoken, backstop},
};
use anyhow::{Context, Result, ensure};

/// What stands last in lightningd's log: the plugin's reason.
pub fn last_word(failed: &FailedStart) -> Result<String> {
    let log = failed
        .says
        .split("stderr of the plugin:")
        .next()
        .unwrap_or_default();
    let last = log.lines().rfind(|line| line.starts_with("  "));
    let last = last.with_context(|| format!("it said nothing: {failed}"))?;
    let reason = last.strip_prefix("  error: ");
    let reason = reason.with_context(|| format!("the last word is no reason: {failed}"))?;
    ensure!(
        leads_on(reason),
        "nobody can tell from the last word what to do: {reason}"
    );
    Ok(reason.to_owned())
}

/// Whether a person can tell what to do next: a command to type, or to start lightningd again once something is so.
#[must_use]
pub fn leads_on(word: &str) -> bool {
    word.contains("type: backstop ") || word.to_lowercase().contains("start lightningd again")
}

/// The words of the last command that is named, from `backstop` on.
pub fn named(word: &str) -> Result<Vec<String>> {
    let (_, command) = word
        .rsplit_once("type: backstop ")
        .with_context(|| format!("it names no command: {word}"))?;
    Ok(command.split_whitespace().map(str::to_owned).collect())
}

/// Types it.
pub fn type_it(word: &str) -> Result<Spoken> {
    let words = named(word)?;
    backstop(&words.iter().map(String::as_str).collect::<Vec<_>>())
}
