//! One connection, from its acceptance to its end.

use super::{
    Certificates, Limits,
    forwarded::Client,
    watch::{Running, Watch, Watched},
};
use crate::metrics::{ConnectionMetrics, Cut};
use axum::{Router, body::Body};
use hyper::{Request, Response, Version, body::Incoming, service::Service};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use std::{convert::Infallible, net::SocketAddr, pin::Pin, pin::pin, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch as channel,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

/// The longest head of a request, bytes: a longer one is answered with 431. A token has 500, proxies add some.
const HEAD_MAX: usize = 64 << 10;
/// The same where it is compressed.
const HEADER_LIST_MAX: u32 = 16 << 10;
/// Requests that one connection of HTTP/2 may have under way.
const STREAMS_MAX: u32 = 64;
/// What waits to be sent on each stream, bytes.
const SEND_BUFFER: usize = 256 << 10;
/// How long a connection that is told to end may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// What the connections of one listener have in common.
pub(super) struct Connections {
    router: Router,
    limits: Limits,
    tls: Option<TlsAcceptor>,
    http: auto::Builder<TokioExecutor>,
    counted: ConnectionMetrics,
}

impl Connections {
    pub(super) fn new(
        router: Router,
        limits: Limits,
        tls: Option<&Certificates>,
        counted: ConnectionMetrics,
    ) -> Self {
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1()
            .max_buf_size(HEAD_MAX)
            // The watch sees to that, and to what comes before it.
            .header_read_timeout(None);
        http.http2()
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEADER_LIST_MAX)
            .max_send_buf_size(SEND_BUFFER);
        Self {
            router,
            limits,
            tls: tls.map(Certificates::acceptor),
            http,
            counted,
        }
    }

    pub(super) fn refuse(&self, peer: SocketAddr) {
        self.counted.refused();
        tracing::debug!(%peer, "too many connections; refused");
    }

    pub(super) async fn serve(&self, socket: TcpStream, peer: SocketAddr, stopped: channel::Receiver<bool>) {
        let _open = self.counted.opened();
        // Answers are short and somebody waits for each.
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "cannot send without delay");
        }
        let watch = Watch::new(self.limits);
        let Some(tls) = &self.tls else {
            self.http(socket, peer, watch, stopped).await;
            return;
        };
        let mut stopping = stopped.clone();
        let shaken = tokio::select! {
            biased;
            _ = stopping.wait_for(|stopped| *stopped) => return,
            shaken = timeout(self.limits.head, tls.accept(socket)) => shaken,
        };
        match shaken {
            Ok(Ok(stream)) => self.http(stream, peer, watch, stopped).await,
            Ok(Err(error)) => {
                self.counted.cut(Cut::Tls);
                tracing::debug!(%peer, %error, "no TLS came about");
            }
            Err(_) => self.counted.cut(Cut::Head),
        }
    }

    async fn http(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
        peer: SocketAddr,
        watch: Arc<Watch>,
        mut stopped: channel::Receiver<bool>,
    ) {
        let calls = Calls {
            router: TowerToHyperService::new(self.router.clone()),
            client: Client {
                address: peer,
                tls: self.tls.is_some(),
            },
            watch: watch.clone(),
        };
        let stream = TokioIo::new(Watched::new(stream, watch.clone()));
        let mut connection = pin!(self.http.serve_connection(stream, calls));
        let mut alarm = pin!(sleep(self.limits.head));
        let mut stopping = false;
        let cut = loop {
            tokio::select! {
                biased;
                // How it ended is the client's affair.
                _ = connection.as_mut() => return,
                _ = stopped.wait_for(|stopped| *stopped), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                cut = watch.expired(alarm.as_mut()) => break cut,
            }
        };
        self.counted.cut(cut);
        tracing::debug!(%peer, cut = cut.as_str(), "a connection is closed");
        if matches!(cut, Cut::Idle) {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                _ = connection => {}
                () = sleep(GOODBYE) => {}
            }
        }
    }
}

/// The router, told who calls.
struct Calls {
    router: TowerToHyperService<Router>,
    client: Client,
    watch: Arc<Watch>,
}

impl Service<Request<Incoming>> for Calls {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let running: Running = self.watch.request(request.version() == Version::HTTP_2);
        request.extensions_mut().insert(self.client);
        let answer = self.router.call(request);
        Box::pin(async move {
            let answer = answer.await;
            drop(running);
            answer
        })
    }
}
