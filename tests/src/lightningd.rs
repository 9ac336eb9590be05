//! A simulated lightningd: it really owns its database, starts the plugin as lightningd does, and commits only on
//! exactly `{"result":"continue"}` (CLN reference 1 and 2).

mod end;
mod faults;
mod recorded;

pub use faults::{Death, FailedStart, Fault, Moment, Victim};
pub use recorded::replay_trace;

use crate::{
    json_rpc::{self, Message},
    node::Node,
    oracle::Oracle,
    plugin::{Plugin, Program},
    rng::Rng,
    schema::{self, Batch},
    statement::Statement,
    wallet::{Wallet, WalletOptions},
    workload::Workload,
};
use std::time::{Duration, Instant};

/// How lightningd is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// The plugin.
    pub program: Program,
    /// The database.
    pub wallet: WalletOptions,
    /// What the workload follows from.
    pub seed: u64,
    /// This start is one with a newer version, the how-manieth: it migrates.
    pub upgrade: Option<u64>,
    /// A death in this start or later.
    pub fault: Option<Fault>,
    /// Remembers what the node acted on.
    pub oracle: Option<Oracle>,
}

impl Options {
    /// An ordinary start with this plugin.
    pub fn new(program: Program, seed: u64) -> Self {
        Self {
            program,
            wallet: WalletOptions::default(),
            seed,
            upgrade: None,
            fault: None,
            oracle: None,
        }
    }
}

/// A running lightningd. It ends by one of its own methods; dropped, it closes its database and kills the plugin.
pub struct Lightningd {
    plugin: Plugin,
    wallet: Option<Wallet>,
    rng: Rng,
    next_id: u64,
    fault: Option<Fault>,
    oracle: Option<Oracle>,
    hook_times: Vec<Duration>,
    sql_bytes: u64,
    /// Whether the simulated schema is in use; a recorded run brings its own writes.
    simulated: bool,
}

impl Lightningd {
    /// Starts it: `getmanifest`, the pidfile, the database with its first writes, `init` with a write in between.
    pub fn start(node: &Node, options: &Options) -> Result<Self, Box<FailedStart>> {
        Self::start_with(node, options, |lightningd| {
            let unfinished =
                schema::rest_of_first_start(&node.node_id()?.0, lightningd.wallet()?.connection())?;
            let batches = match options.upgrade {
                _ if !unfinished.is_empty() => unfinished,
                None => schema::later_start(),
                Some(step) => schema::upgrading_start(step),
            };
            for batch in batches {
                lightningd.batch(batch)?;
            }
            Ok(())
        })
    }

    /// The steps of a start around `before_init`, which must write at least once.
    fn start_with(
        node: &Node,
        options: &Options,
        before_init: impl FnOnce(&mut Self) -> Result<(), Death>,
    ) -> Result<Self, Box<FailedStart>> {
        let unstarted = |death: Death| {
            Box::new(FailedStart {
                death,
                says: String::new(),
            })
        };
        let plugin = Plugin::start(&options.program, &node.network_dir())
            .map_err(|error| unstarted(Death::Wallet(error)))?;
        let mut lightningd = Self {
            plugin,
            wallet: None,
            rng: Rng::new(options.seed),
            next_id: 1,
            fault: options.fault,
            oracle: options.oracle.clone(),
            hook_times: Vec::new(),
            sql_bytes: 0,
            simulated: true,
        };
        let steps = |lightningd: &mut Self| -> Result<(), Death> {
            lightningd.get_manifest()?;
            lightningd.plugin.lock_pidfile(&node.pidfile())?;
            if let Some(oracle) = &lightningd.oracle {
                oracle.started();
            }
            lightningd.wallet = Some(Wallet::open(&node.database(), options.wallet)?);
            // The same seed on a later state is another life.
            lightningd.rng = Rng::new(options.seed ^ lightningd.version().rotate_right(20));
            before_init(lightningd)?;
            lightningd.init(node)
        };
        match steps(&mut lightningd) {
            Ok(()) => Ok(lightningd),
            Err(death) => {
                let says = lightningd.plugin.says();
                // What a dead start leaves is what a kill leaves.
                let death = lightningd.kill().err().unwrap_or(death);
                Err(Box::new(FailedStart { death, says }))
            }
        }
    }

    fn get_manifest(&mut self) -> Result<(), Death> {
        let id = self.send_request("getmanifest", br#"{"allow-deprecated-apis":true}"#);
        let manifest = self.result_of("getmanifest", &id)?;
        let array = |name: &str| manifest.get(name).and_then(|v| v.as_array()).cloned();
        let names = |name: &str, item: &str| array(name).is_some_and(|list| list.iter().any(|i| i == item));
        let refuse = |why: &str| Err(Death::Manifest(format!("{why}: {manifest}")));
        if array("options").is_none() || array("rpcmethods").is_none() {
            return refuse("options and rpcmethods are mandatory");
        }
        if manifest.get("disable").is_some() {
            return refuse("it disables itself");
        }
        if !names("hooks", "db_write") {
            return refuse("it does not register db_write");
        }
        Ok(())
    }

    /// Sends `init`, lets another plugin write before its reply, and takes the reply.
    fn init(&mut self, node: &Node) -> Result<(), Death> {
        let params = serde_json::json!({
            "options": {},
            "configuration": {
                "lightning-dir": node.network_dir(),
                "rpc-file": "lightning-rpc",
                "startup": true,
                "network": node.network().as_str(),
                "feature_set": {"init": "08a0880a8a59a1", "node": "88a0880a8a59a1", "channel": "", "invoice": "02000022024100"},
            },
        });
        let id = self.send_request("init", params.to_string().as_bytes());
        self.write_of_a_sibling()?;
        let result = self.result_of("init", &id)?;
        if result.get("disable").is_some() {
            return Err(Death::Manifest("it disables itself at init".to_owned()));
        }
        Ok(())
    }

    /// Another plugin writes to the datastore.
    fn write_of_a_sibling(&mut self) -> Result<(), Death> {
        if self.simulated {
            let batch = schema::datastore_write(self.rng.bytes(40));
            self.commit(&batch)?;
        }
        Ok(())
    }

    fn send_request(&mut self, method: &'static str, params: &[u8]) -> String {
        let id = format!("cln:{method}#{}", self.next_id);
        self.next_id += 1;
        self.deliver(&json_rpc::request(&id, method, params));
        format!("\"{id}\"")
    }

    /// Writes to the plugin. A broken pipe shows when the reply does not come.
    fn deliver(&mut self, bytes: &[u8]) {
        let _ = self.plugin.send(bytes);
    }

    fn result_of(&mut self, during: &'static str, id: &str) -> Result<serde_json::Value, Death> {
        let message = self.reply(during, id)?;
        message.get("result").ok_or_else(|| {
            Death::Manifest(format!(
                "{during}: {}",
                message.raw("error").unwrap_or("no result")
            ))
        })
    }

    fn reply(&mut self, during: &'static str, id: &str) -> Result<Message, Death> {
        self.plugin
            .reply(id)
            .map_err(|why| Death::NoReply { during, why })
    }

    fn wallet(&mut self) -> Result<&mut Wallet, Death> {
        self.wallet
            .as_mut()
            .ok_or_else(|| anyhow::anyhow!("the database is not open yet").into())
    }

    /// The version after the last commit.
    pub fn version(&self) -> u64 {
        self.wallet.as_ref().map_or(0, Wallet::version)
    }

    /// The plugin, to be looked at or hurt.
    pub fn plugin(&mut self) -> &mut Plugin {
        &mut self.plugin
    }

    /// How long each `db_write` took, from the first byte sent to the reply.
    pub fn hook_times(&self) -> &[Duration] {
        &self.hook_times
    }

    /// Bytes of all statements that were reported.
    pub fn sql_bytes(&self) -> u64 {
        self.sql_bytes
    }

    /// A copy of the committed database while it is open.
    pub fn copy_database(&mut self, to: &std::path::Path) -> Result<(), Death> {
        Ok(self.wallet()?.copy_to(to)?)
    }

    /// Someone will die. The count of batches starts now.
    pub fn arm(&mut self, fault: Fault) {
        self.fault = Some(fault);
    }

    /// One payment: 13 to 21 batches; the version after it.
    pub fn pay(&mut self) -> Result<u64, Death> {
        let wallet = self
            .wallet
            .as_ref()
            .ok_or_else(|| anyhow::anyhow!("the database is not open"))?;
        let batches = Workload::new(&mut self.rng, wallet.connection()).payment()?;
        for batch in batches {
            self.commit(&batch)?;
        }
        Ok(self.version())
    }

    /// One batch of about this many bytes of SQL.
    pub fn write_large(&mut self, bytes: usize) -> Result<u64, Death> {
        let wallet = self
            .wallet
            .as_ref()
            .ok_or_else(|| anyhow::anyhow!("the database is not open"))?;
        let batch = Workload::new(&mut self.rng, wallet.connection()).large(bytes);
        self.commit(&batch)
    }

    fn batch(&mut self, batch: Batch) -> Result<(), Death> {
        match batch {
            Batch::Transaction(statements) => self.commit(&statements).map(|_| ()),
            Batch::Outside(pragma) => {
                self.wallet()?.execute_outside(pragma)?;
                let version = self.version();
                self.ask(version, version, &[pragma.as_bytes().to_vec()])
            }
            Batch::Unreported => self.vacuum(),
        }
    }

    /// One unit of lightningd's work: execute, ask, commit; the version after it.
    pub fn commit(&mut self, statements: &[Statement]) -> Result<u64, Death> {
        self.send_uncommitted(statements)?;
        self.commit_open()
    }

    /// Executes, asks, and stops before COMMIT: a batch in flight.
    pub fn send_uncommitted(&mut self, statements: &[Statement]) -> Result<(), Death> {
        let wallet = self.wallet()?;
        for statement in statements {
            wallet.execute(statement)?;
        }
        let (version, writes) = wallet.raise_version()?;
        self.ask(version - 1, version, &writes)
    }

    fn commit_open(&mut self) -> Result<u64, Death> {
        self.wallet()?.commit()?;
        self.strike(Moment::Committed)?;
        if let Some(fault) = &mut self.fault {
            fault.batch = fault.batch.saturating_sub(1);
        }
        Ok(self.version())
    }

    /// The rewrite of the file after a migration, of which no plugin hears.
    fn vacuum(&mut self) -> Result<(), Death> {
        if let Some(oracle) = &self.oracle {
            oracle.vacuumed();
        }
        Ok(self.wallet()?.vacuum()?)
    }

    /// The hook, for writes that lead from one version to another: `Ok` is `continue`.
    fn ask(&mut self, before: u64, after: u64, writes: &[Vec<u8>]) -> Result<(), Death> {
        self.strike(Moment::Executed)?;
        let id = format!("cln:db_write#{}", self.next_id);
        self.next_id += 1;
        let request = json_rpc::request(&id, "db_write", &json_rpc::db_write_params(after, writes));
        self.sql_bytes += writes.iter().map(|write| write.len() as u64).sum::<u64>();
        let started = Instant::now();
        let half = match self.fault {
            Some(Fault {
                batch: 0,
                moment: Moment::Half(bytes),
                ..
            }) => bytes.min(request.len() - 3),
            _ => 0,
        };
        let (first, rest) = request.split_at(half);
        self.deliver(first);
        self.strike(Moment::Half(half))?;
        if let Some(oracle) = &self.oracle {
            oracle.sent(before, after, writes);
        }
        self.deliver(rest);
        self.strike(Moment::Sent)?;
        let reply = self.reply("db_write", &format!("\"{id}\""))?;
        self.hook_times.push(started.elapsed());
        let accepted = reply
            .get("result")
            .is_some_and(|result| result.get("result").is_some_and(|r| r == "continue"));
        if !accepted {
            let said = reply
                .raw("result")
                .or(reply.raw("error"))
                .unwrap_or("neither result nor error");
            return Err(Death::Refused(said.to_owned()));
        }
        if let Some(oracle) = &self.oracle {
            oracle.acknowledged(before)?;
        }
        self.strike(Moment::Continued)
    }

    /// Kills whoever is to die at this moment.
    fn strike(&mut self, moment: Moment) -> Result<(), Death> {
        let Some(fault) = self.fault else { return Ok(()) };
        let half = matches!((moment, fault.moment), (Moment::Half(_), Moment::Half(_)));
        if fault.batch > 0 || !(half || moment == fault.moment) {
            return Ok(());
        }
        self.fault = None;
        match fault.victim {
            Victim::Plugin => {
                self.plugin.kill();
                Ok(())
            }
            Victim::Lightningd => Err(Death::Killed(moment)),
            Victim::Machine => {
                self.plugin.kill();
                Err(Death::Killed(moment))
            }
        }
    }
}
