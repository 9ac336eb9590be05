//! How a secret comes in: typed unseen at a terminal, or from a file descriptor. Never as an argument, which every
//! process of the machine can read (I11).

use std::{
    fs::File,
    io::{self, IsTerminal, Read},
};
use zeroize::{Zeroize, Zeroizing};

/// Longest secret, bytes; 24 words are far below.
const LEN_MAX: usize = 4096;

/// Where a person may be asked.
pub trait Terminal {
    /// Asks, and reads a line without showing it; `None` where nobody can be asked.
    fn ask_unseen(&mut self, question: &str) -> io::Result<Option<Zeroizing<String>>>;
}

/// The terminal that the program was started at, if it was.
pub struct OwnTerminal;

impl Terminal for OwnTerminal {
    fn ask_unseen(&mut self, question: &str) -> io::Result<Option<Zeroizing<String>>> {
        // A script may have a controlling terminal and still nobody who looks at it.
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        rpassword::prompt_password(format!("{question}: ")).map(|typed| Some(Zeroizing::new(typed)))
    }
}

/// A secret that a command may need.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// What it is, as in "the passphrase".
    pub what: &'static str,
    /// The option that names a file descriptor to read it from.
    pub option: &'static str,
}

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// Nobody can be asked, and no descriptor was named.
    #[error(
        "{what} is needed, and there is no terminal to ask at: pass it with {option} N, N being an open file descriptor (as in `{option} 3 3< FILE`)"
    )]
    NobodyToAsk {
        /// What is needed.
        what: &'static str,
        /// The option to use.
        option: &'static str,
    },
    /// The terminal failed.
    #[error("{what} could not be read from the terminal: {reason}")]
    Terminal {
        /// What was asked for.
        what: &'static str,
        /// What the system said.
        reason: io::Error,
    },
    /// The descriptor is not open for reading.
    #[error("{option} {fd}: nothing can be read there ({reason})")]
    Descriptor {
        /// The option.
        option: &'static str,
        /// The number that was given.
        fd: u32,
        /// What the system said.
        reason: io::Error,
    },
    /// What came is no secret that a person could have chosen.
    #[error("{what} must be text of at most {LEN_MAX} bytes")]
    NotText {
        /// What was asked for.
        what: &'static str,
    },
}

/// Gets a secret: from descriptor `fd` where there is one, all of it but one line end behind it; else from a person.
pub fn secret(
    terminal: &mut dyn Terminal,
    wanted: Wanted,
    fd: Option<u32>,
) -> Result<Zeroizing<String>, PromptError> {
    let Wanted { what, option } = wanted;
    match fd {
        Some(fd) => read_descriptor(fd)
            .map_err(|reason| PromptError::Descriptor { option, fd, reason })?
            .ok_or(PromptError::NotText { what }),
        None => terminal
            .ask_unseen(&format!("Type {what} (it is not shown)"))
            .map_err(|reason| PromptError::Terminal { what, reason })?
            .ok_or(PromptError::NobodyToAsk { what, option }),
    }
}

fn read_descriptor(fd: u32) -> io::Result<Option<Zeroizing<String>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(LEN_MAX + 3));
    // Two bytes of line end, one to tell that there is more.
    File::open(format!("/dev/fd/{fd}"))?
        .take(LEN_MAX as u64 + 3)
        .read_to_end(&mut bytes)?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    if bytes.len() > LEN_MAX {
        return Ok(None);
    }
    match String::from_utf8(std::mem::take(&mut bytes)) {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(error) => {
            error.into_bytes().zeroize();
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Write, os::fd::AsRawFd};

    const WANTED: Wanted = Wanted {
        what: "the passphrase",
        option: "--passphrase-fd",
    };

    struct Nobody;

    impl Terminal for Nobody {
        fn ask_unseen(&mut self, _: &str) -> io::Result<Option<Zeroizing<String>>> {
            Ok(None)
        }
    }

    struct Somebody(&'static str);

    impl Terminal for Somebody {
        fn ask_unseen(&mut self, question: &str) -> io::Result<Option<Zeroizing<String>>> {
            assert!(question.contains("the passphrase"));
            Ok(Some(Zeroizing::new(self.0.to_owned())))
        }
    }

    fn through_pipe(bytes: &[u8]) -> Result<Zeroizing<String>, PromptError> {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(bytes).unwrap();
        drop(writer);
        let fd = u32::try_from(reader.as_raw_fd()).unwrap();
        secret(&mut Nobody, WANTED, Some(fd))
    }

    #[test]
    fn without_a_terminal_nothing_is_asked_and_the_error_names_the_option() {
        let error = secret(&mut Nobody, WANTED, None).unwrap_err();
        assert!(matches!(error, PromptError::NobodyToAsk { .. }));
        assert!(error.to_string().contains("--passphrase-fd 3 3< FILE"));
    }

    #[test]
    fn what_a_person_types_is_the_secret() {
        assert_eq!(*secret(&mut Somebody("abc"), WANTED, None).unwrap(), "abc");
    }

    #[test]
    fn a_descriptor_gives_all_it_holds_but_one_line_end() {
        for (bytes, want) in [
            (&b"secret"[..], "secret"),
            (b"secret\n", "secret"),
            (b"secret\r\n", "secret"),
            (b" sec\nret \n\n", " sec\nret \n"),
            ("p\u{e4}ss".as_bytes(), "p\u{e4}ss"),
            (b"", ""),
        ] {
            assert_eq!(*through_pipe(bytes).unwrap(), want);
        }
    }

    #[test]
    fn a_descriptor_that_is_closed_or_holds_no_text_is_an_error() {
        assert!(matches!(
            secret(&mut Nobody, WANTED, Some(999_999)),
            Err(PromptError::Descriptor { fd: 999_999, .. })
        ));
        assert!(matches!(
            through_pipe(&[0xff, 0xfe]),
            Err(PromptError::NotText { .. })
        ));
        assert!(through_pipe(&[b'x'; LEN_MAX]).is_ok());
        assert!(matches!(
            through_pipe(&[b'x'; LEN_MAX + 1]),
            Err(PromptError::NotText { .. })
        ));
    }
}
