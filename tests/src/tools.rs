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

/// An S3 server that keeps objects as files; from crates.io.
pub const S3_SERVER: Tool = Tool {
    name: "s3s-fs",
    version: "0.14.1",
};

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

    /// The program, which is there.
    ///
    /// # Panics
    /// Where it is not: a test is never skipped for that.
    #[must_use]
    pub fn found(&self) -> PathBuf {
        let program = self.program();
        assert!(
            program.is_file(),
            "{} {} is not at {}: `cargo test-all` installs it",
            self.name,
            self.version,
            program.display()
        );
        program
    }
}
