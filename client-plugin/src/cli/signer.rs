//! The node's signature under a text: asked of the running node, or of a person who signs by hand.

use crate::cln::{NodeDir, Rpc};
use anyhow::{Context as _, ensure};
use backstop_protocol::{id::NodeId, signmessage};
use std::io::{BufRead, Write};

/// Who signs.
pub(super) enum Signer<'a> {
    /// The lightningd of this directory.
    Node(&'a NodeDir),
    /// A person, who is shown the text and brings what `signmessage` printed for it.
    Hand {
        /// Where he reads.
        shown: &'a mut dyn Write,
        /// Where he types.
        typed: &'a mut dyn BufRead,
    },
}

impl Signer<'_> {
    /// Signs `text` as `node`.
    pub(super) fn sign(&mut self, text: &str, node: NodeId) -> anyhow::Result<String> {
        let signature = match self {
            Self::Node(files) => Rpc::new(files.rpc())
                .signmessage(text)
                .context("to sign it elsewhere, use --by-hand")?,
            Self::Hand { shown, typed } => {
                writeln!(
                    shown,
                    "Sign this with the node's key:\n\n    lightning-cli signmessage \"{text}\"\n\nand type what it prints as \
                     zbase:"
                )?;
                shown.flush()?;
                let mut line = String::new();
                typed.read_line(&mut line)?;
                line.trim().trim_matches(['"', ',']).to_owned()
            }
        };
        let signer = signmessage::recover(text, &signature)?;
        ensure!(
            signer == node,
            "that is not this node's signature under this text (it would be node {signer}'s): nothing was changed"
        );
        Ok(signature)
    }
}
