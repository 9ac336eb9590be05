//! A server, from its parts to its end.

use crate::{
    config::Config,
    data_dir::{DataDir, DataDirError, Sharing},
    housekeeping::{Housekeeper, Housekeeping},
    http::{self, App, Arrivals},
    metrics::{ConnectionMetrics, Metrics},
    operations::{self, Operations},
    packs::DirectoryPacks,
    sessions::Sessions,
    store::{PostgresStore, SqliteStore, Store, postgres, sqlite::OpenError},
    transport::{Certificates, Limits, Proxies, TlsError, Transport},
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
    /// The packs cannot be used.
    #[error("cannot use the pack directory {}: {cause}; give it to the user that runs the server", .dir.display())]
    Packs {
        /// The directory.
        dir: PathBuf,
        /// Why.
        cause: io::Error,
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
        let sharing = match config.database {
            None => Sharing::Alone,
            Some(_) => Sharing::Together,
        };
        let mut data = DataDir::open(&config.data, sharing)?;
        let identity = data.identity(rng)?;
        let store: Arc<dyn Store> = if let Some(url) = &config.database {
            let key = identity.server_key();
            Arc::new(PostgresStore::open(url.expose(), key, config.roll_up, rng).await?)
        } else {
            let file = data.database();
            let store = SqliteStore::open(&file, config.database_limit, config.roll_up, rng).await;
            Arc::new(store.map_err(|cause| ServerError::Store { file, cause })?)
        };
        let dir = data.packs();
        let packs = match sharing {
            Sharing::Alone => DirectoryPacks::open(&dir),
            Sharing::Together => DirectoryPacks::open_shared(&dir, rng.next_u64(), clock.now()),
        };
        let packs = packs.map_err(|cause| ServerError::Packs { dir, cause })?;
        data.sync()?;
        data.started();
        let (listener, local_addr) = listen(config.listen, "--listen").await?;
        if let Some(address) = config.metrics.filter(|address| !local(*address)) {
            tracing::warn!(
                "others can reach {address}, where metrics are shown in plain HTTP; they name no node"
            );
        }
        let metrics_listener = match config.metrics {
            Some(address) => Some(listen(address, "--metrics").await?),
            None => None,
        };
        let sessions = Sessions::new(identity, store.id());
        let packs = Arc::new(packs);
        let (housekeeping, wake) = Housekeeping::new();
        let housekeeper = Housekeeper::new(
            store.clone(),
            packs.clone(),
            clock.clone(),
            config.history,
            config.housekeeping_pause,
            wake,
        );
        let (stopping, stopped) = watch::channel(false);
        let app = Arc::new(App {
            housekeeping,
            sessions,
            store,
            packs,
            clock,
            metrics: Metrics::new(),
            proxies: Proxies::new(&config.trusted_proxies),
            body_grace: config.body_grace,
            arrivals: Arrivals::default(),
            stopping: stopped.clone(),
        });
        let transport = Transport::new(
            listener,
            http::router(app.clone()),
            config.limits,
            certificates.as_deref(),
            app.metrics.connections().clone(),
        );
        let metrics_addr = metrics_listener.as_ref().map(|(_, address)| *address);
        let operations = metrics_listener.map(|(listener, _)| {
            let router = operations::router(Operations {
                metrics: app.metrics.clone(),
                store: app.store.clone(),
                stopping: stopped,
            });
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
            drain: config.drain,
            stopping,
            _data: data,
        })
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
        self.app.store.close().await;
    }
}

async fn listen(listen: SocketAddr, flag: &'static str) -> Result<(TcpListener, SocketAddr), ServerError> {
    let failed = |cause| ServerError::Listen { listen, flag, cause };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Reads the certificate; without one, refuses an address that others reach, unless they may.
pub(crate) fn check_exposure(config: &Config) -> Result<Option<Certificates>, ServerError> {
    match &config.tls {
        Some(files) => Ok(Some(Certificates::load(files.clone())?)),
        None if local(config.listen) || config.plain_http => Ok(None),
        None => Err(ServerError::Exposed {
            listen: config.listen,
        }),
    }
}

/// Whether this machine alone can reach an address.
fn local(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
