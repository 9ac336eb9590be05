//! `granted`: the grants that this node gave to other devices, so that they can be listed before a server was shown them,
//! and so that no serial is given twice.

use super::{Directory, DirectoryError};
use backstop_protocol::grant::SignedGrant;
use serde::{Deserialize, Serialize};

const FILE: &str = "granted";

/// The content of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Granted {
    /// Version of this file, 1.
    version: u8,
    grants: Vec<SignedGrant>,
}

impl Directory {
    /// The grants that were given here, oldest first.
    pub fn granted(&self) -> Result<Vec<SignedGrant>, DirectoryError> {
        let Some(text) = self.read_if_there(FILE)? else {
            return Ok(Vec::new());
        };
        let granted: Granted =
            serde_json::from_str(&text).map_err(|error| self.bad(FILE, error.to_string()))?;
        if granted.version == 1 {
            Ok(granted.grants)
        } else {
            Err(self.bad(FILE, "a version unknown to this program"))
        }
    }

    /// Remembers one more.
    pub fn add_granted(&self, grant: &SignedGrant) -> Result<(), DirectoryError> {
        let mut grants = self.granted()?;
        if !grants.contains(grant) {
            grants.push(grant.clone());
        }
        let text = serde_json::to_string(&Granted { version: 1, grants })
            .map_err(|error| self.bad(FILE, error.to_string()))?;
        self.write(FILE, &format!("{text}\n"))
    }

    /// Puts another grant in the place of the configuration's own, and leaves all else of that file as its owner wrote it.
    pub fn replace_grant(&self, new: &SignedGrant) -> Result<(), DirectoryError> {
        let file = super::config::FILE;
        let before = self.config()?;
        let text = self
            .read(file)?
            .replace(&before.grant.text, &new.text)
            .replace(&before.grant.signature, &new.signature);
        self.write(file, &text)?;
        let after = self.config()?;
        if after.grant == *new {
            Ok(())
        } else {
            Err(self.bad(
                file,
                "its grant is not written as setup writes it; run setup again",
            ))
        }
    }
}
