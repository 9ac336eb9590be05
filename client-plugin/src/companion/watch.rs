//! Tells when protection is lost, and when it comes back.

use super::{
    TOPIC,
    call::{Backstop, COMMANDS, Failed},
};
use crate::plugin::stdio::{self, Level};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

/// What the last look found, and what is said of a new one.
#[derive(Default)]
struct Watch {
    /// Whether the node was protected. Absent before the first.
    protected: Option<bool>,
}

/// Something to say.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    level: Level,
    message: String,
    protected: bool,
    problems: Vec<String>,
}

/// Looks again and again, until the process ends.
pub(super) async fn watch(backstop: Arc<Backstop>, every: Duration) {
    let Some(status) = COMMANDS
        .iter()
        .find(|command| command.method == "backstop-status")
    else {
        return;
    };
    let mut watch = Watch::default();
    loop {
        let problems = problems(backstop.call(status).await);
        if let Some(change) = watch.sees(problems) {
            stdio::log(change.level, &change.message);
            stdio::notify(
                TOPIC,
                &json!({ "protected": change.protected, "problems": change.problems }),
            );
        }
        tokio::time::sleep(every).await;
    }
}

/// What is wrong according to `status --json`; nothing where the node is protected.
fn problems(status: Result<Value, Failed>) -> Vec<String> {
    let status = match status {
        Ok(status) => status,
        Err(Failed(reason)) => {
            return vec![format!(
                "whether this node is protected could not be found out: {reason}"
            )];
        }
    };
    if status.get("protected") == Some(&Value::Bool(true)) {
        return Vec::new();
    }
    let told = status.get("problems").and_then(Value::as_array);
    let told = told.into_iter().flatten().filter_map(Value::as_str);
    let mut problems: Vec<_> = told.map(str::to_owned).collect();
    if problems.is_empty() {
        problems.push("backstop status does not say why".to_owned());
    }
    problems
}

impl Watch {
    /// Takes a look in; something to say where it turned. Which problem there is may change from look to look, and `status` says.
    fn sees(&mut self, problems: Vec<String>) -> Option<Change> {
        let protected = problems.is_empty();
        let last = self.protected.replace(protected);
        if last == Some(protected) {
            return None;
        }
        let (level, message) = if !protected {
            (
                Level::Error,
                format!("This node is NOT PROTECTED by backstop: {}", problems.join(" ")),
            )
        } else if last.is_some() {
            (
                Level::Warn,
                "This node is protected by backstop again: every commit is backed up before lightningd makes it.".to_owned(),
            )
        } else {
            (
                Level::Info,
                "This node is protected by backstop: every commit is backed up before lightningd makes it."
                    .to_owned(),
            )
        };
        Some(Change {
            level,
            message,
            protected,
            problems,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(watch: &mut Watch, problems: &[&str]) -> Option<Level> {
        let problems = problems.iter().map(|problem| (*problem).to_owned()).collect();
        watch.sees(problems).map(|change| change.level)
    }

    #[test]
    fn loss_and_return_are_told_once_each_and_loudly() {
        let mut watch = Watch::default();
        assert_eq!(level(&mut watch, &[]), Some(Level::Info));
        assert_eq!(level(&mut watch, &[]), None);
        assert_eq!(level(&mut watch, &["a"]), Some(Level::Error));
        assert_eq!(level(&mut watch, &["a"]), None);
        assert_eq!(level(&mut watch, &["a", "b"]), None);
        assert_eq!(level(&mut watch, &[]), Some(Level::Warn));
        assert_eq!(level(&mut Watch::default(), &["a"]), Some(Level::Error));
    }

    #[test]
    fn a_status_that_cannot_be_had_is_a_problem_too() {
        assert_eq!(
            problems(Ok(json!({ "protected": true, "problems": [] }))),
            Vec::<String>::new()
        );
        assert_eq!(
            problems(Ok(json!({ "protected": false, "problems": ["x"] }))),
            ["x"]
        );
        assert_eq!(problems(Ok(json!({}))).len(), 1);
        assert!(problems(Err(Failed("y".to_owned())))[0].contains('y'));
    }
}
