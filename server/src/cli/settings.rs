//! Every setting of a server: its one definition, from which flags, environment, file and reference follow.

mod pages;

use super::units;
use crate::{
    Cidr, Config, DEFAULT_LISTEN, DatabaseUrl, Limits, Rates, TlsFiles, Webhook, default_data_dir,
    packs::{Bucket, BucketUrl},
    store::{HistoryPolicy, QuotaPolicy, Registration, RollUpPolicy},
};
use anyhow::Context as _;
use clap::{ArgAction, Args};
use pages::Pages;
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// What can be set. The words of each are its help, its comment in the default file and its line in the reference.
#[derive(Debug, Args)]
pub(super) struct Settings {
    /// Where to listen; port 0 takes any that is free.
    #[arg(long, value_name = "ADDR:PORT", default_value_t = DEFAULT_LISTEN)]
    listen: SocketAddr,
    /// Where everything is kept. Without it: $XDG_DATA_HOME/backstop-server or ~/.local/share/backstop-server, for root
    /// /var/lib/backstop-server.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Keep records in this PostgreSQL database (14 or later) instead of a SQLite file in the data directory. Servers that
    /// share it share the data directory too. A password belongs into ~/.pgpass or the environment: a command line is
    /// read by everybody on the machine.
    #[arg(long, value_name = "postgres://...", hide_env_values = true)]
    database: Option<DatabaseUrl>,
    /// Bring an older database up to date at the start. Without it the server refuses one, until `backstop-server migrate`
    /// has.
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = true,
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    migrate: bool,
    /// What is logged: error, warn, info, debug or trace, or a filter as tracing-subscriber reads it. `RUST_LOG` stands for
    /// it where neither flag nor environment name it.
    #[arg(long, value_name = "FILTER", default_value = "info", value_parser = super::log::filter)]
    pub(super) log: String,
    #[command(flatten)]
    storage: Storage,
    #[command(flatten)]
    exposure: Exposure,
    #[command(flatten)]
    connections: Connections,
    #[command(flatten)]
    policies: Policies,
    #[command(flatten)]
    scrubs: Scrubs,
    #[command(flatten)]
    tenants: Tenants,
    #[command(flatten)]
    pages: Pages,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Where packs are kept")]
pub(super) struct Storage {
    /// Keep packs in this bucket of S3-compatible storage instead of a directory in the data directory. Who the server is
    /// there comes from `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or from the machine's own role.
    #[arg(long, value_name = "s3://BUCKET/PREFIX")]
    packs: Option<BucketUrl>,
    /// The service that has the bucket, where it is not AWS.
    #[arg(long, value_name = "URL", value_parser = endpoint)]
    packs_endpoint: Option<String>,
    /// The bucket's region; without it `AWS_REGION`, else us-east-1.
    #[arg(long, value_name = "REGION")]
    packs_region: Option<String>,
    /// How long one attempt at one request to the bucket may take; a failed one is repeated up to three times.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = units::limit)]
    packs_timeout: Duration,
}

impl Storage {
    /// The bucket that is meant, if any.
    pub(super) fn bucket(&self) -> anyhow::Result<Option<Bucket>> {
        let Some(url) = &self.packs else {
            if self.packs_endpoint.is_some() {
                anyhow::bail!("--packs-endpoint needs --packs s3://BUCKET, the bucket at that service");
            }
            return Ok(None);
        };
        Ok(Some(Bucket {
            endpoint: self.packs_endpoint.clone(),
            region: self.packs_region.clone(),
            timeout: self.packs_timeout,
            ..Bucket::new(url.clone())
        }))
    }
}

fn endpoint(text: &str) -> Result<String, String> {
    let uri: axum::http::Uri = text.parse().map_err(|_| "it is no URL".to_owned())?;
    let whole = uri.host().is_some() && uri.path() == "/" && uri.query().is_none() && !text.contains('@');
    if whole && matches!(uri.scheme_str(), Some("http" | "https")) {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err("write https://HOST or https://HOST:PORT, without user, path or query".to_owned())
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Who can reach it")]
struct Exposure {
    /// Speak TLS with this certificate: a PEM file with the full chain, read again when it changes.
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key: a PEM file that only its owner can read.
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Listen without TLS on an address that others can reach. Right only where a proxy with TLS or an onion service
    /// stands in front.
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = false,
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    plain_http: bool,
    /// A proxy, or a range of them, whose X-Forwarded-For or Forwarded is believed, in logs and limits. May be given several
    /// times. The proxy must set one of the two headers and remove the other.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    trusted_proxy: Vec<Cidr>,
    /// Answer /metrics, /health and /ready here, in plain HTTP; without it nowhere. Best on 127.0.0.1 or in a network of
    /// your own.
    #[arg(long, value_name = "ADDR:PORT")]
    metrics: Option<SocketAddr>,
    /// Let metrics name so many nodes, the oldest ones, with the size of their logs and the time of their last record.
    /// Without it they name none: whoever reads them would learn who is backed up here.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    metrics_nodes: u32,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_field_names, reason = "fields are named like the flags")]
#[command(next_help_heading = "What connections may cost")]
struct Connections {
    /// Connections open at once; one more is closed at once.
    #[arg(long, value_name = "NUMBER", default_value = "16384", value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: u32,
    /// How long a connection may take to its first request, and the head of each request from its first byte on.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = units::limit)]
    head_timeout: Duration,
    /// How long a connection may be silent between two requests; plugins keep theirs for five minutes.
    #[arg(long, value_name = "TIME", default_value = "6m", value_parser = units::limit)]
    idle_timeout: Duration,
    /// How long a client may take nothing of what is sent to it.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = units::limit)]
    stall_timeout: Duration,
    /// How long requests under way may take to finish when the server stops.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::limit)]
    drain_timeout: Duration,
}

/// When a node is asked for a new snapshot, and what is kept then. A roll-up is asked for as soon as one of its bounds is
/// reached.
#[derive(Debug, Args)]
#[command(next_help_heading = "Roll-ups and history")]
struct Policies {
    /// Ask for a roll-up at this size of the log above the newest snapshot, unless --roll-up-ratio asks for more.
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = units::bytes)]
    roll_up_bytes: u64,
    /// The share of the newest snapshot's size that this log must reach too.
    #[arg(long, value_name = "SHARE", default_value = "0.5", value_parser = units::percent)]
    roll_up_ratio: u64,
    /// Ask for a roll-up at this number of records above the newest snapshot.
    #[arg(long, value_name = "NUMBER", default_value_t = 100_000)]
    roll_up_records: u64,
    /// Ask for a roll-up when the oldest of these records is of this age.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = units::time)]
    roll_up_age: Duration,
    /// Keep at least this number of snapshots of each node, and the log above the oldest of them.
    #[arg(long, value_name = "NUMBER", default_value_t = 3)]
    history_snapshots: usize,
    /// Keep each snapshot for at least this number of days after a newer one was completed; never less than one.
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    history_days: u32,
}

/// The scrubs that the server does by itself: everything that is stored is read and checked, one node after the other.
#[derive(Debug, Args)]
#[command(next_help_heading = "Scrubs")]
struct Scrubs {
    /// Scrub each node once in this time; 0s for never. Storage that asks money for reading asks it for this too.
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = units::time)]
    scrub_every: Duration,
    /// Read at most so many bytes in a second for it, on average; 0 for as many as there are.
    #[arg(long, value_name = "SIZE", default_value = "4MiB", value_parser = units::bytes)]
    scrub_rate: u64,
}

/// Who is taken in, how much room each has, and what the operator hears.
#[derive(Debug, Args)]
#[command(next_help_heading = "Tenants")]
struct Tenants {
    /// Which nodes are taken in that have no account yet: open (every one), invite (those with an invitation from `invite create`
    /// or allowed by `node allow`), allowlist (the latter alone).
    #[arg(long, value_name = "open|invite|allowlist", default_value_t = Registration::Open)]
    registration: Registration,
    /// How many bytes each node may use that has no quota of its own; without it the disk decides.
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    quota: Option<u64>,
    /// From this share of its quota on a node is warned and asked for roll-ups early; half way to the quota its history
    /// yields.
    #[arg(long, value_name = "SHARE", default_value = "0.8", value_parser = units::percent)]
    quota_warning: u64,
    /// This share of its quota a node may use beyond it, with alarms on both sides, before its records are refused.
    #[arg(long, value_name = "SHARE", default_value = "0.2", value_parser = units::percent)]
    quota_overdraft: u64,
    /// How long after it was asked for the removal of a node begins; so long it can be taken back.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = units::time)]
    removal_delay: Duration,
    /// A node is silent after this time without a record, or earlier by its own rhythm.
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = units::time)]
    silent_after: Duration,
    /// Requests a second without a session, from one address; ten times as many at once.
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    address_rate: u32,
    /// Requests a second without a session, from all addresses together.
    #[arg(long, value_name = "NUMBER", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    anonymous_rate: u32,
    /// Requests a second in the sessions of one node. Appends of its writer are never limited.
    #[arg(long, value_name = "NUMBER", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    node_rate: u32,
    /// An address, or a range of them, behind which are many clients: it has no limit of its own. This machine is always one,
    /// for a proxy or an onion service. May be given several times.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    shared_address: Vec<Cidr>,
    /// Send events to this URL: a node fell silent, runs out of room, is to be removed, found its backup wrong.
    #[arg(long, value_name = "URL", hide_env_values = true, requires = "webhook_secret")]
    webhook: Option<WebhookUrl>,
    /// The secret that signs them: a file that only its owner can read, with 16 to 32 bytes, such as openssl rand -hex 16 makes.
    #[arg(long, value_name = "FILE", requires = "webhook")]
    webhook_secret: Option<PathBuf>,
}

/// Shows itself to nobody: it may hold a secret.
#[derive(Clone)]
struct WebhookUrl(String);

impl std::fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebhookUrl(..)")
    }
}

// Judged where it is used: whoever refuses an argument repeats it.
impl From<String> for WebhookUrl {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl Tenants {
    fn webhook(&self) -> anyhow::Result<Option<Webhook>> {
        let (Some(url), Some(file)) = (&self.webhook, &self.webhook_secret) else {
            return Ok(None);
        };
        let secret = pages::secret("--webhook-secret", file)?;
        Ok(Some(Webhook::new(&url.0, &secret)?))
    }
}

impl Settings {
    /// What they mean together.
    pub(super) fn config(&self) -> anyhow::Result<Config> {
        let data = match &self.data {
            Some(data) => std::path::absolute(data).with_context(|| format!("--data {}", data.display()))?,
            None => default_data_dir()?,
        };
        let Self {
            exposure,
            connections,
            policies,
            tenants,
            ..
        } = self;
        let tls = match (&exposure.tls_cert, &exposure.tls_key) {
            (Some(cert), Some(key)) => Some(TlsFiles {
                cert: cert.clone(),
                key: key.clone(),
            }),
            (None, None) => None,
            (Some(_), None) => {
                anyhow::bail!("--tls-cert needs --tls-key FILE, the certificate's private key")
            }
            (None, Some(_)) => anyhow::bail!("--tls-key needs --tls-cert FILE, the certificate of that key"),
        };
        Ok(Config {
            listen: self.listen,
            database: self.database.clone(),
            packs: self.storage.bucket()?,
            tls,
            plain_http: exposure.plain_http,
            trusted_proxies: exposure.trusted_proxy.clone(),
            metrics: exposure.metrics,
            metrics_nodes: exposure.metrics_nodes,
            web: self.pages.web,
            web_admin: self.pages.admin(exposure.metrics)?,
            migrate: self.migrate,
            limits: Limits {
                connections: usize::try_from(connections.max_connections)?,
                head: connections.head_timeout,
                idle: connections.idle_timeout,
                stall: connections.stall_timeout,
            },
            drain: connections.drain_timeout,
            roll_up: RollUpPolicy {
                min_bytes: policies.roll_up_bytes,
                percent: policies.roll_up_ratio,
                records: policies.roll_up_records,
                age: policies.roll_up_age,
            },
            history: HistoryPolicy {
                snapshots: policies.history_snapshots,
                days: policies.history_days,
            },
            scrub_every: self.scrubs.scrub_every,
            scrub_rate: self.scrubs.scrub_rate,
            quota: QuotaPolicy {
                bytes: tenants.quota,
                warn_percent: tenants.quota_warning,
                overdraft_percent: tenants.quota_overdraft,
            },
            registration: tenants.registration,
            removal_delay: tenants.removal_delay,
            silent_after: tenants.silent_after,
            rates: Rates {
                address: tenants.address_rate,
                everyone: tenants.anonymous_rate,
                account: tenants.node_rate,
                shared: tenants.shared_address.clone(),
            },
            webhook: tenants.webhook()?,
            ..Config::new(data)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser as _;

    #[test]
    fn what_nobody_chooses_is_what_the_library_has_as_default() {
        let cli = Cli::try_parse_from(["backstop-server", "serve", "--data=/d"]).unwrap();
        let Command::Serve(settings) = cli.command else {
            panic!("{cli:?}");
        };
        let (chosen, default) = (settings.config().unwrap(), Config::new(PathBuf::from("/d")));
        assert_eq!(format!("{chosen:?}"), format!("{default:?}"));
    }
}
