//! Programs that tests start and no distribution packages: what they are, in which version, and where they lie. `cargo
//! test-all` installs them; the tests of both sides find them here.

use std::{env, path::PathBuf};

/// A program of another registry than Debian's.
#[derive(Debug)]
pub struct Tool {
    /// Its name, and its package's.
    pub name: &'static str,
    /// The one version that the tests are written for.
    pub version: &'static str,
}

/// All of them.
pub const TOOLS: [Tool; 3] = [
    // Makes the Debian packages; from crates.io.
    Tool {
        name: "cargo-deb",
        version: "3.8.0",
    },
    // An S3 server that keeps objects as files; from crates.io.
    Tool {
        name: "s3s-fs",
        version: "0.14.1",
    },
    // Asks a server everything that its OpenAPI document allows, and what it does not; from PyPI.
    Tool {
        name: "schemathesis",
        version: "4.32.5",
    },
];

impl Tool {
    /// The directory that it is installed into, with its version in the name: clones share it.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || PathBuf::from(env::var_os("HOME").unwrap_or_else(|| "/root".into()));
        let cache = cache.unwrap_or_else(|| home().join(".cache"));
        cache
            .join("backstop-tests")
            .join(format!("{}-{}", self.name, self.version))
    }

    /// The program, whether or not it is there.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        self.root().join("bin").join(self.name)
    }
}

/// One of the programs, which is there.
///
/// # Panics
/// Where it is not: a test is never skipped for that.
#[must_use]
pub fn found(name: &str) -> PathBuf {
    let tool = TOOLS.iter().find(|tool| tool.name == name);
    let program = tool.map(Tool::program).filter(|program| program.is_file());
    program.unwrap_or_else(|| panic!("{name} is not there: `cargo test-all` installs it"))
}
