//! `revoked`: the last word of this node on which of its grants are over, so that a server that comes later hears of it too. It
//! is no secret: every server has it.

use super::{Directory, DirectoryError};
use backstop_protocol::{grant::BadGrant, revocation::SignedRevocation};
use serde::{Deserialize, Serialize};

const FILE: &str = "revoked";

/// The content of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoked {
    /// Version of this file, 1.
    version: u8,
    revocation: SignedRevocation,
}

impl Directory {
    /// The revocation with the highest floor that was signed here.
    pub fn revoked(&self) -> Result<Option<SignedRevocation>, DirectoryError> {
        let Some(text) = self.read_if_there(FILE)? else {
            return Ok(None);
        };
        let revoked: Revoked =
            serde_json::from_str(&text).map_err(|error| self.bad(FILE, error.to_string()))?;
        if revoked.version != 1 {
            return Err(self.bad(FILE, "a version unknown to this program"));
        }
        self.floor(&revoked.revocation)?;
        Ok(Some(revoked.revocation))
    }

    /// Remembers it, unless one that was signed before says more.
    pub fn write_revoked(&self, revocation: &SignedRevocation) -> Result<(), DirectoryError> {
        let floor = self.floor(revocation)?;
        if let Some(before) = self.revoked()?
            && self.floor(&before)? >= floor
        {
            return Ok(());
        }
        let revoked = Revoked {
            version: 1,
            revocation: revocation.clone(),
        };
        let text = serde_json::to_string(&revoked).map_err(|error| self.bad(FILE, error.to_string()))?;
        self.write(FILE, &format!("{text}\n"))
    }

    fn floor(&self, revocation: &SignedRevocation) -> Result<u64, DirectoryError> {
        let read = revocation.verify();
        let read = read.map_err(|error: BadGrant| self.bad(FILE, error.to_string()))?;
        Ok(read.floor)
    }
}
