//! Colour, where a terminal shows it and nobody asked for none.

use std::io::{self, IsTerminal as _};

/// What a word is to whoever reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// As it should be.
    Good,
    /// Worth a thought.
    Careful,
    /// Something must be done.
    Bad,
}

/// Colours words, or leaves them as they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint {
    on: bool,
}

impl Paint {
    /// No colour.
    #[cfg(test)]
    pub(super) const NONE: Self = Self { on: false };

    /// For what goes to standard output. `NO_COLOR` and `TERM=dumb` are heard.
    pub(super) fn of_stdout() -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self {
            on: io::stdout().is_terminal() && !set("NO_COLOR") && !dumb,
        }
    }

    /// The words in their colour, bold.
    pub(super) fn say(self, tone: Tone, words: &str) -> String {
        let code = match tone {
            Tone::Good => 32,
            Tone::Careful => 33,
            Tone::Bad => 31,
        };
        if self.on {
            format!("\x1b[1;{code}m{words}\x1b[0m")
        } else {
            words.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_coloured_or_left_as_they_are() {
        assert_eq!(Paint::NONE.say(Tone::Bad, "NOT PROTECTED"), "NOT PROTECTED");
        assert_eq!(
            Paint { on: true }.say(Tone::Good, "PROTECTED"),
            "\x1b[1;32mPROTECTED\x1b[0m"
        );
    }
}
