//! A server, from its parts to its end.

use crate::{
    config::Config,
    data_dir::{DataDir, DataDirError, Sharing},
    housekeeping::{Housekeeper, Housekeeping},
    http::{self, App},
    packs::DirectoryPacks,
    sessions::Sessions,
    store::{PostgresStore, SqliteStore, Store, postgres, sqlite::OpenError},
};
use axum::serve::ListenerExt as _;
use backstop_protocol::{clock::Clock, id::ServerKey};
use rand_core::CryptoRng;
use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::watch};

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
    #[error("cannot listen on {listen}: {}", listen_advice(.cause))]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// The listener broke.
    #[error("the listener broke")]
    Serve(#[source] io::Error),
}

fn listen_advice(cause: &io::Error) -> String {
    match cause.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there; stop it, or choose another port with --listen ADDR:PORT"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need a privilege; choose another with --listen ADDR:PORT".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have that address; choose another with --listen ADDR:PORT".to_owned()
        }
        _ => format!("{cause}; choose another address with --listen ADDR:PORT"),
    }
}

/// A server that listens, and will answer once it is [run](Server::run).
pub struct Server {
    listener: TcpListener,
    local_addr: SocketAddr,
    app: Arc<App>,
    housekeeper: Housekeeper,
    drain: Duration,
    _data: DataDir,
}

impl Server {
    /// Takes the data directory, brings the database up to date, and listens. `rng` makes the identity of a new server.
    pub async fn bind(
        config: Config,
        clock: Arc<dyn Clock>,
        rng: &mut (dyn CryptoRng + Send),
    ) -> Result<Self, ServerError> {
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
        let failed = |cause| ServerError::Listen {
            listen: config.listen,
            cause,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let local_addr = listener.local_addr().map_err(failed)?;
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
        let app = Arc::new(App {
            housekeeping,
            sessions,
            store,
            packs,
            clock,
            body_grace: config.body_grace,
        });
        Ok(Self {
            listener,
            local_addr,
            app,
            housekeeper,
            drain: config.drain,
            _data: data,
        })
    }

    /// Where it listens, with the port that the system chose.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The server's name, which clients pin.
    #[must_use]
    pub fn server_key(&self) -> ServerKey {
        self.app.sessions.server_key()
    }

    /// Answers until `shutdown` is done; then takes no more connections, finishes what is under way, within the
    /// configured time, and closes the database. What an answer said is durable at any moment (I1): a server that
    /// is killed instead loses nothing.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<(), ServerError> {
        let listener = self.listener.tap_io(|connection| {
            // Answers are short and somebody waits for each.
            if let Err(error) = connection.set_nodelay(true) {
                tracing::debug!(%error, "cannot send without delay");
            }
        });
        let (stopping, mut stopped) = watch::channel(false);
        let signal = async move {
            shutdown.await;
            stopping.send_replace(true);
        };
        let housekeeping = tokio::spawn(self.housekeeper.run(stopped.clone()));
        let router = http::router(self.app.clone());
        let serving = axum::serve(listener, router).with_graceful_shutdown(signal);
        let overdue = async {
            // An error means that the signal is gone, with the server behind it.
            let _ = stopped.wait_for(|stopping| *stopping).await;
            tokio::time::sleep(self.drain).await;
        };
        let served = tokio::select! {
            served = async { serving.await } => served.map_err(ServerError::Serve),
            () = overdue => {
                tracing::warn!("requests were still under way; they are cut off, unanswered");
                Ok(())
            }
        };
        // It stops between two of its steps, each of which is short; and none is lost where one is cut off.
        if tokio::time::timeout(self.drain, housekeeping).await.is_err() {
            tracing::warn!("housekeeping was still under way; it goes on at the next start");
        }
        self.app.store.close().await;
        served
    }
}
