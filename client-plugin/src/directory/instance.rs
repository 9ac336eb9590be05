//! `instance`: the name of this lightning-dir as a writer (I7).

use super::{Directory, DirectoryError};
use backstop_protocol::id::InstanceId;

const FILE: &str = "instance";

impl Directory {
    /// The name of this directory.
    pub fn instance(&self) -> Result<InstanceId, DirectoryError> {
        self.read(FILE)?
            .trim_end()
            .parse()
            .map_err(|error: backstop_protocol::id::BadId| self.bad(FILE, error.to_string()))
    }

    /// Gives this directory a name; whoever had the old one, had this directory as it was.
    pub fn write_instance(&self, instance: InstanceId) -> Result<(), DirectoryError> {
        self.write(FILE, &format!("{instance}\n"))
    }
}
