//! Connections: accepted, limited, watched, ended in order.
//!
//! A [`Transport`] hands the requests of a listener to a router. The router knows nothing of sockets; what a socket may
//! cost is decided here: how many are open, how long one may be silent, how slowly it may send a head or take an
//! answer, and how long a head may be (I12). Bodies have their own pace (`http::body`).

mod cidr;
mod connection;
mod forwarded;
mod tls;
mod watch;

pub use cidr::{BadCidr, Cidr};
pub(crate) use forwarded::{Client, Proxies};
pub use tls::{Certificates, TlsError, TlsFiles};

use crate::metrics::ConnectionMetrics;
use axum::Router;
use connection::Connections;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch as channel},
};

/// How long to rest when the system has no more sockets to give.
const REST: Duration = Duration::from_millis(200);

/// What connections may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections; one more is closed as soon as it is accepted.
    pub connections: usize,
    /// How long a connection may take to its first request, TLS included, and the head of each later one from its first
    /// byte on.
    pub head: Duration,
    /// How long a connection may be silent between two requests.
    pub idle: Duration,
    /// How long a client may take nothing of what is sent to it.
    pub stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            head: Duration::from_secs(30),
            // Longer than a plugin keeps its own, so that it is never the one surprised.
            idle: Duration::from_mins(6),
            // The system takes up to 4 MiB for a connection and tells of room by thirds: at this limit a client that
            // takes as little as `BODY_RATE` a second is not cut off.
            stall: Duration::from_mins(5),
        }
    }
}

/// A listener, and what its connections are served by.
pub(crate) struct Transport {
    listener: TcpListener,
    connections: Arc<Connections>,
    open: Arc<Semaphore>,
    most: usize,
}

impl Transport {
    /// Nothing is accepted until [`Transport::run`]. `tls` is for every connection or none.
    pub(crate) fn new(
        listener: TcpListener,
        router: Router,
        limits: Limits,
        tls: Option<&Certificates>,
        counted: ConnectionMetrics,
    ) -> Self {
        let most = limits.connections.min(Semaphore::MAX_PERMITS);
        Self {
            listener,
            connections: Arc::new(Connections::new(router, limits, tls, counted)),
            open: Arc::new(Semaphore::new(most)),
            most,
        }
    }

    /// Serves until `stopped` is true; then takes no more connections, and returns when the last of them has ended. Each
    /// finishes the requests that it has begun.
    pub(crate) async fn run(self, mut stopped: channel::Receiver<bool>) {
        let seen = stopped.clone();
        loop {
            let accepted = tokio::select! {
                biased;
                // An error means that the server is gone.
                _ = stopped.wait_for(|stopped| *stopped) => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => self.take(socket, peer, &seen),
                Err(error) => pause(&error).await,
            }
        }
        drop(self.listener);
        let all = u32::try_from(self.most).unwrap_or(u32::MAX);
        // It is never closed: this waits until every permit is back.
        drop(self.open.acquire_many(all).await);
    }

    fn take(&self, socket: TcpStream, peer: SocketAddr, stopped: &channel::Receiver<bool>) {
        let Ok(permit) = self.open.clone().try_acquire_owned() else {
            self.connections.refuse(peer);
            return;
        };
        let (connections, stopped) = (self.connections.clone(), stopped.clone());
        tokio::spawn(async move {
            connections.serve(socket, peer, stopped).await;
            drop(permit);
        });
    }
}

/// A client that left is no reason to rest; a system without sockets is.
async fn pause(error: &io::Error) {
    let kind = error.kind();
    if matches!(
        kind,
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    ) {
        return;
    }
    tracing::warn!(%error, "a connection could not be accepted; if there are too many open files, raise LimitNOFILE or lower --max-connections");
    tokio::time::sleep(REST).await;
}
