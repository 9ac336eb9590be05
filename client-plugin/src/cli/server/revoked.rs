//! What a server that comes must hear of this node's grants: which of them are over (SPEC 4.6).

use crate::{node::Node, remote::Session};
use std::io::Write;

/// Tells it what was signed here, and says what is left for a person where another server knows more than that.
pub(super) async fn tell(
    node: &Node,
    to: &Session,
    from: &Session,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    if let Some(revocation) = node.directory.revoked()? {
        to.revoke(&revocation).await?;
    }
    let (floor, there) = (
        from.account_grants().await?.floor,
        to.account_grants().await?.floor,
    );
    if there < floor {
        // Another lightning-dir signed it, before this one was restored.
        writeln!(
            out,
            "Careful   {} has not heard that the grants with serials below {floor} are over. When lightningd runs, type: backstop revoke \
             --lightning-dir {} --network {} --below {floor}",
            to.url(),
            node.files.base().display(),
            node.files.network()
        )?;
    }
    Ok(())
}
