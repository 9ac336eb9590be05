//! What can be chosen about a server.

use crate::{
    packs::Bucket,
    rates::Rates,
    store::{HistoryPolicy, QuotaPolicy, Registration, RollUpPolicy, Terms},
    transport::{Cidr, Limits, TlsFiles},
    web::AdminToken,
    webhooks::Webhook,
};
use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// Where a server listens that nobody configured.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8750);

/// How many bytes of a body must arrive in a second, once the grace is used up: slow enough for a long batch over a bad
/// Tor circuit, fast enough that nobody holds a connection for nothing.
pub const BODY_RATE: u64 = 4096;

/// Where a PostgreSQL database is: `postgres://user@host:5432/name`. It may hold a password, and shows itself to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The URL with all that is in it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl(..)")
    }
}

// Judged where it is used: whoever refuses an argument repeats it.
impl From<String> for DatabaseUrl {
    fn from(url: String) -> Self {
        Self(url)
    }
}

/// What can be chosen about a server. [`Config::new`] has good values for everything but the place of the data.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The certificate to be shown; without one HTTP is plain.
    pub tls: Option<TlsFiles>,
    /// Whether plain HTTP may be spoken to others than this machine: right only where a proxy with TLS or an onion
    /// service stands in front.
    pub plain_http: bool,
    /// The proxies whose word on a client's address is taken.
    pub trusted_proxies: Vec<Cidr>,
    /// Where to answer `/metrics`, `/health` and `/ready`, in plain HTTP.
    pub metrics: Option<SocketAddr>,
    /// How many nodes metrics may name, the oldest ones.
    pub metrics_nodes: u32,
    /// Whether nodes' owners find a page here that shows them their backups.
    pub web: bool,
    /// What the operator shows to see all nodes, on a page beside the metrics; without it there is none.
    pub web_admin: Option<AdminToken>,
    /// Whether an older database is brought up to date at the start.
    pub migrate: bool,
    /// What connections may cost.
    pub limits: Limits,
    /// The directory that holds everything. It is made where it is missing.
    pub data: PathBuf,
    /// The PostgreSQL database; without one, a SQLite file in the data directory.
    pub database: Option<DatabaseUrl>,
    /// The bucket that packs are kept in; without one, a directory in the data directory.
    pub packs: Option<Bucket>,
    /// How many bytes the SQLite file may grow to before appends are refused with `storage_full`; without a limit the
    /// disk decides.
    pub database_limit: Option<u64>,
    /// When clients are asked for a new snapshot.
    pub roll_up: RollUpPolicy,
    /// How much of each history is kept.
    pub history: HistoryPolicy,
    /// How much room nodes have.
    pub quota: QuotaPolicy,
    /// Which nodes are taken in.
    pub registration: Registration,
    /// How long after it was asked for the removal of a node begins.
    pub removal_delay: Duration,
    /// After how long without a record every node counts as silent, whatever its own rhythm.
    pub silent_after: Duration,
    /// How often somebody may ask.
    pub rates: Rates,
    /// Where events are sent, if anywhere.
    pub webhook: Option<Webhook>,
    /// How long to rest between two rounds of housekeeping over all accounts. What goes then is decided by the server's
    /// clock, not by this.
    pub housekeeping_pause: Duration,
    /// How often each account is scrubbed; never, where it is nothing.
    pub scrub_every: Duration,
    /// Bytes that scrubs read in a second, on average; 0 for as many as there are.
    pub scrub_rate: u64,
    /// How long a request's body may take beyond one second for each [`BODY_RATE`] bytes of it.
    pub body_grace: Duration,
    /// How long requests under way may take to finish when the server stops. What comes later is refused or cut off.
    pub drain: Duration,
}

impl Config {
    /// The defaults, over the given data directory.
    #[must_use]
    pub fn new(data: PathBuf) -> Self {
        Self {
            listen: DEFAULT_LISTEN,
            tls: None,
            plain_http: false,
            trusted_proxies: Vec::new(),
            metrics: None,
            metrics_nodes: 0,
            web: true,
            web_admin: None,
            migrate: true,
            limits: Limits::default(),
            data,
            database: None,
            packs: None,
            database_limit: None,
            roll_up: RollUpPolicy::default(),
            history: HistoryPolicy::default(),
            quota: QuotaPolicy::default(),
            registration: Registration::default(),
            removal_delay: Terms::default().removal_delay,
            silent_after: Terms::default().silent_after,
            rates: Rates::default(),
            webhook: None,
            housekeeping_pause: Duration::from_mins(5),
            scrub_every: Duration::from_hours(30 * 24),
            scrub_rate: 4 << 20,
            body_grace: Duration::from_secs(30),
            drain: Duration::from_secs(10),
        }
    }

    /// On what terms accounts are kept.
    #[must_use]
    pub fn terms(&self) -> Terms {
        Terms {
            roll_up: self.roll_up.clone(),
            quota: self.quota.clone(),
            registration: self.registration,
            removal_delay: self.removal_delay,
            silent_after: self.silent_after,
        }
    }
}
