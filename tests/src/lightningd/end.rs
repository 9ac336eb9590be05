//! How a lightningd ends: killed, without power, or in order.

use super::{Death, Lightningd};
use crate::{json_rpc, plugin::Plugin, schema};

impl Lightningd {
    /// `kill -9` of lightningd alone. The plugin is an orphan whose streams have ended.
    pub fn kill(mut self) -> Result<Plugin, Death> {
        let wallet = self.wallet.take();
        self.plugin.orphan();
        if let Some(wallet) = wallet {
            wallet.crash()?;
        }
        Ok(self.plugin)
    }

    /// The machine loses power; the database comes back `back` versions behind its last commit: see
    /// [`crate::wallet::Wallet::power_cut`]. Files that the plugin wrote stay as they are.
    pub fn power_cut(mut self, back: u64) -> Result<(), Death> {
        self.plugin.kill();
        self.plugin.orphan();
        match self.wallet.take() {
            Some(wallet) => Ok(wallet.power_cut(back)?),
            None => Ok(()),
        }
    }

    /// A clean stop: `shutdown`, a write by another plugin still in reach, the plugin's own end, and `tail` writes
    /// that nobody reports because every plugin has left. Its exit status, and what it said.
    pub fn stop(mut self, tail: u64) -> Result<(i32, String), Death> {
        let ended = self.end_plugin()?;
        if let Some(mut wallet) = self.wallet.take() {
            for _ in 0..tail {
                for statement in schema::datastore_write(self.rng.bytes(40)) {
                    wallet.execute(&statement)?;
                }
                let (version, writes) = wallet.raise_version()?;
                wallet.commit()?;
                if let Some(oracle) = &self.oracle {
                    oracle.unreported(version, writes);
                }
            }
            wallet.close()?;
        }
        Ok(ended)
    }

    /// A clean stop whose last commit was not on the disk yet when the machine lost power.
    pub fn stop_and_lose_power(mut self) -> Result<(), Death> {
        self.end_plugin()?;
        match self.wallet.take() {
            Some(wallet) => Ok(wallet.power_cut(1)?),
            None => Ok(()),
        }
    }

    fn end_plugin(&mut self) -> Result<(i32, String), Death> {
        self.deliver(&json_rpc::notification("shutdown", b"{}"));
        self.write_of_a_sibling()?;
        let status = self.plugin.wait().map_err(|why| Death::NoReply {
            during: "shutdown",
            why,
        })?;
        let says = self.plugin.says();
        self.plugin.orphan();
        Ok((status, says))
    }
}
