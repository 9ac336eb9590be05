//! What lies in the pack store and nobody knows of: what a database that was restored from a copy leaves behind.

use super::{Report, ScrubError, Scrubber};
use crate::packs::PackRange;

impl Scrubber {
    /// Counts the packs that have no row.
    pub(super) async fn orphans(&self, report: &mut Report) -> Result<(), ScrubError> {
        for account in self.packs.accounts().await? {
            for found in self.packs.list(account).await? {
                if self.store.knows_pack(account, found.pack).await? {
                    continue;
                }
                // A pack loses its file before its row: what went since it was listed is gone.
                let byte = PackRange { offset: 0, length: 1 };
                if self.packs.get(account, found.pack, Some(byte)).await?.is_some() {
                    tracing::info!(account = account.0, pack = %found.pack, "a pack that the database does not know of");
                    report.orphans += 1;
                    report.orphan_bytes += found.bytes;
                }
            }
        }
        Ok(())
    }
}
