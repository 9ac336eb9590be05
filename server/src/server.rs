//! A server, from its parts to its end.

mod exposure;
mod stores;

pub(crate) use exposure::check_exposure;
use exposure::warn_of_shown_metrics;
use stores::{open_packs, open_store, sharing};

use crate::{
    config::Config,
    data_dir::{DataDir, DataDirError},
    gauges::Gauges,
    housekeeping::{Alarms, Housekeeper, Housekeeping},
    http::{self, App, Arrivals, KnownKeys},
    metrics::{ConnectionMetrics, Metrics},
    operations::{self, Operations},
    packs::{BucketUrl, PackError},
    rates::Limiter,
    scrub::{Schedule, Scrubber},
    sessions::Sessions,
    store::{moving::MoveError, postgres, sqlite::OpenError},
    transport::{Certificates, Limits, Proxies, TlsError, Transport},
    web::{self, Passes},
    webhooks::{Post, Webhooks},
};
use backstop_protocol::{clock::Clock, id::ServerKey};
use rand_core::CryptoRng;
use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::watch};

/// Connections that an operator's machines may have open.
const OPERATORS: usize = 64;

/// Why a server did not start, or stopped by itself. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The database cannot be used.
    #[error("cannot use the database {}", .file.display())]
    Store {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        cause: OpenError,
    },
    /// The PostgreSQL database cannot be used.
    #[error("cannot use the PostgreSQL database")]
    Postgres(#[from] postgres::OpenError),
    /// It was moved, or is on its way.
    #[error(transparent)]
    Moving(#[from] MoveError),
    /// The packs cannot be used.
    #[error("cannot use the pack directory {}: {cause}; give it to the user that runs the server", .dir.display())]
    Packs {
        /// The directory.
        dir: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The bucket cannot be used.
    #[error(
        "cannot use the bucket {bucket}: {cause}; it must exist, and the key in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must allow to list it and to write, read and delete objects; --packs-endpoint URL names a service that is not AWS"
    )]
    Bucket {
        /// The bucket.
        bucket: BucketUrl,
        /// Why.
        cause: PackError,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}: {}", listen_advice(.cause, .flag))]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// The flag that names it.
        flag: &'static str,
        /// Why.
        cause: io::Error,
    },
    /// Others could reach the address, and all could watch.
    #[error(
        "{listen} can be reached by others, and without TLS anybody on the way sees which nodes are backed up here; give a certificate with --tls-cert FILE and --tls-key FILE, or listen on 127.0.0.1 behind a proxy or an onion service; if one stands in front of this very address, say --plain-http"
    )]
    Exposed {
        /// The address.
        listen: SocketAddr,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

fn listen_advice(cause: &io::Error, flag: &str) -> String {
    let what = match cause.kind() {
        io::ErrorKind::AddrInUse => "another program listens there".to_owned(),
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
        _ => cause.to_string(),
    };
    format!("{what}; choose another address or port with {flag} ADDR:PORT")
}

/// A server that listens, and will answer once it is [run](Server::run).
pub struct Server {
    transport: Transport,
    operations: Option<Transport>,
    local_addr: SocketAddr,
    metrics_addr: Option<SocketAddr>,
    certificates: Option<Arc<Certificates>>,
    app: Arc<App>,
    housekeeper: Housekeeper,
    post: Post,
    schedule: Option<Schedule>,
    drain: Duration,
    stopping: watch::Sender<bool>,
    _data: DataDir,
}

impl Server {
    /// Takes the data directory, brings the database up to date, and listens. `rng` makes the identity of a new server.
    pub async fn bind(
        config: Config,
        clock: Arc<dyn Clock>,
        rng: &mut (dyn CryptoRng + Send),
    ) -> Result<Self, ServerError> {
        let certificates = check_exposure(&config)?.map(Arc::new);
        let (terms, sharing) = (config.terms(), sharing(&config));
        let mut data = DataDir::open(&config.data, sharing)?;
        let identity = data.identity(rng)?;
        let store = open_store(&config, &data, &identity, rng).await?;
        let packs = open_packs(
            config.packs.as_ref(),
            &data,
            sharing,
            store.id(),
            rng.next_u64(),
            clock.now(),
        )
        .await?;
        data.sync()?;
        data.started();
        let (listener, local_addr) = listen(config.listen, "--listen").await?;
        warn_of_shown_metrics(&config);
        let metrics_listener = listen_for_operators(config.metrics).await?;
        let passes = Passes::new(&identity, store.id(), config.web_admin, rng);
        let sessions = Sessions::new(identity, store.id());
        let (housekeeping, wake) = Housekeeping::new();
        let metrics = Metrics::new();
        let (webhooks, post) = Webhooks::start(
            config.webhook,
            sessions.server_key(),
            store.clone(),
            clock.clone(),
            metrics.tenants().clone(),
        );
        let housekeeper = Housekeeper::new(
            store.clone(),
            packs.clone(),
            clock.clone(),
            config.history,
            config.housekeeping_pause,
            wake,
            Alarms::new(webhooks.clone(), metrics.tenants().clone()),
        );
        let scrubber = Scrubber::new(store.clone(), packs.clone(), clock.clone(), config.scrub_rate);
        let schedule = schedule(scrubber, clock.clone(), config.scrub_every, &metrics);
        let (stopping, stopped) = watch::channel(false);
        let app = Arc::new(App {
            housekeeping,
            sessions,
            passes,
            terms,
            store,
            packs,
            clock,
            metrics,
            limiter: Limiter::new(config.rates),
            known: KnownKeys::default(),
            webhooks,
            proxies: Proxies::new(&config.trusted_proxies),
            body_grace: config.body_grace,
            arrivals: Arrivals::default(),
            stopping: stopped.clone(),
        });
        let transport = Transport::new(
            listener,
            http::router(&app, config.web),
            config.limits,
            certificates.as_deref(),
            app.metrics.connections().clone(),
        );
        let metrics_addr = metrics_listener.as_ref().map(|(_, address)| *address);
        let operations = metrics_listener.map(|(listener, _)| {
            let router = operations::router(Operations {
                metrics: app.metrics.clone(),
                gauges: Arc::new(Gauges::new(&*app.store, &config.data, config.metrics_nodes)),
                store: app.store.clone(),
                stopping: stopped,
            });
            let router = router.merge(web::of_operator(&app));
            let limits = Limits {
                connections: OPERATORS,
                ..config.limits
            };
            // What an operator's machines do here is not counted among the clients.
            Transport::new(listener, router, limits, None, ConnectionMetrics::default())
        });
        Ok(Self {
            transport,
            operations,
            local_addr,
            metrics_addr,
            certificates,
            app,
            housekeeper,
            post,
            schedule,
            drain: config.drain,
            stopping,
            _data: data,
        })
    }

    /// Brings the database up to date, as a start does, and lets go of it; where it is.
    pub async fn migrate(config: Config, rng: &mut (dyn CryptoRng + Send)) -> Result<PathBuf, ServerError> {
        let mut data = DataDir::open(&config.data, sharing(&config))?;
        let identity = data.identity(rng)?;
        let config = Config {
            migrate: true,
            ..config
        };
        let store = open_store(&config, &data, &identity, rng).await?;
        data.sync()?;
        data.started();
        store.close().await;
        Ok(config.data)
    }

    /// Where it listens, with the port that the system chose.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where metrics are asked for, with the port that the system chose; `None` where they are not.
    #[must_use]
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics_addr
    }

    /// The certificate that is shown, to be read anew; `None` where HTTP is plain.
    #[must_use]
    pub fn certificates(&self) -> Option<Arc<Certificates>> {
        self.certificates.clone()
    }

    /// The server's name, which clients pin.
    #[must_use]
    pub fn server_key(&self) -> ServerKey {
        self.app.sessions.server_key()
    }

    /// Answers until `shutdown` is done; then takes no more connections, finishes what is under way, within the
    /// configured time, and closes the database. What an answer said is durable at any moment (I1): a server that
    /// is killed instead loses nothing.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) {
        let stopped = self.stopping.subscribe();
        let mut stop = stopped.clone();
        tokio::spawn(async move {
            shutdown.await;
            self.stopping.send_replace(true);
        });
        let housekeeping = tokio::spawn(self.housekeeper.run(stopped.clone()));
        if let Some(schedule) = self.schedule {
            tokio::spawn(schedule.run(stopped.clone()));
        }
        // It answers while the others drain, until this function returns.
        let (_end, ended) = watch::channel(false);
        if let Some(operations) = self.operations {
            tokio::spawn(operations.run(ended));
        }
        let overdue = async {
            // An error means that the signal is gone, with the server behind it.
            let _ = stop.wait_for(|stopping| *stopping).await;
            tokio::time::sleep(self.drain).await;
        };
        tokio::select! {
            () = self.transport.run(stopped) => {}
            () = overdue => {
                tracing::warn!("requests were still under way; they are cut off, unanswered");
            }
        }
        // It stops between two of its steps, each of which is short; and none is lost where one is cut off.
        if tokio::time::timeout(self.drain, housekeeping).await.is_err() {
            tracing::warn!("housekeeping was still under way; it goes on at the next start");
        }
        // What was told is kept before the store closes.
        drop(tokio::time::timeout(self.drain, self.post.close()).await);
        self.app.store.close().await;
    }
}

/// What reads everything again from time to time, where that is wished.
fn schedule(
    scrubber: Scrubber,
    clock: Arc<dyn Clock>,
    every: Duration,
    metrics: &Metrics,
) -> Option<Schedule> {
    (!every.is_zero()).then(|| Schedule {
        scrubber,
        clock,
        every,
        metrics: metrics.scrubs().clone(),
    })
}

/// Where an operator's machines look, if anywhere.
async fn listen_for_operators(
    address: Option<SocketAddr>,
) -> Result<Option<(TcpListener, SocketAddr)>, ServerError> {
    match address {
        Some(address) => listen(address, "--metrics").await.map(Some),
        None => Ok(None),
    }
}

async fn listen(listen: SocketAddr, flag: &'static str) -> Result<(TcpListener, SocketAddr), ServerError> {
    let failed = |cause| ServerError::Listen { listen, flag, cause };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}
