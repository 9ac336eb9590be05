//! The HTTP client under everything: one connection pool, one set of time-outs, bounded answers.

use super::{RemoteError, body::Body};
use crate::mapped;
use backstop_protocol::{
    api::{JSON_MAX, MAC_HEADER, RECORDS},
    problem::Problem,
};
use bytes::{Bytes, BytesMut};
use reqwest::{Client, Method, StatusCode, Url, header};
use serde::de::DeserializeOwned;
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// How servers are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// `socks5h://host:port` of a Tor or other proxy; `None`: directly.
    pub proxy: Option<String>,
    /// How long a connection may take to be made, and an answer to begin; a longer body gets more.
    pub timeout: Duration,
}

impl Connect {
    /// How long a connection through a proxy may take: Tor builds a circuit first.
    pub const PROXY_TIMEOUT: Duration = Duration::from_secs(30);

    /// Through this proxy, or directly, with the time-out that suits it.
    #[must_use]
    pub fn through(proxy: Option<String>) -> Self {
        match proxy {
            Some(_) => Self {
                proxy,
                timeout: Self::PROXY_TIMEOUT,
            },
            None => Self::default(),
        }
    }
}

impl Default for Connect {
    fn default() -> Self {
        Self {
            proxy: None,
            timeout: Duration::from_secs(10),
        }
    }
}

/// The longest that a server's word lets a call wait; whoever says more has his reasons, and is asked again.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The slowest line on which a request's body still counts as moving, bytes per second.
const SLOWEST_LINE: u64 = 16 << 10;

pub(super) struct Http {
    client: Client,
    /// Without a slash at the end. A path in it is what a proxy strips: a request's MAC does not cover it.
    shown: String,
    timeout: Duration,
    /// Until when the server asked to be left alone.
    rests_until: Mutex<Option<Instant>>,
}

/// An answer whose MAC nobody has looked at yet.
pub(super) struct RawAnswer {
    pub(super) status: StatusCode,
    pub(super) mac: Option<[u8; 32]>,
    pub(super) body: Bytes,
}

impl RawAnswer {
    /// The problem document in the body, where there is one.
    pub(super) fn problem(&self) -> Option<Problem> {
        if self.status.is_success() {
            None
        } else {
            serde_json::from_slice(&self.body).ok()
        }
    }
}

impl Http {
    pub(super) fn new(url: &str, connect: &Connect) -> Result<Self, RemoteError> {
        let bad = |reason: String| RemoteError::BadUrl {
            url: url.to_owned(),
            reason,
        };
        let base = Url::parse(url).map_err(|error| bad(error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(bad(
                "it must start with http:// or https:// and name a host".into()
            ));
        }
        if !base.username().is_empty()
            || base.password().is_some()
            || base.query().is_some()
            || base.fragment().is_some()
        {
            return Err(bad("it must hold no user, password, query or fragment".into()));
        }
        if connect.proxy.is_none() && base.host_str().is_some_and(is_onion) {
            return Err(bad(
                "an onion service is reached through Tor alone: say where Tor listens, with --proxy \
                 socks5h://127.0.0.1:9050, or proxy = \"socks5h://127.0.0.1:9050\" in backstop/config.toml"
                    .into(),
            ));
        }
        if let Some(proxy) = &connect.proxy
            && !is_socks(proxy)
        {
            return Err(bad(format!(
                "the proxy {proxy} must be like socks5h://127.0.0.1:9050: with the h, so that it is the proxy who looks up \
                 names"
            )));
        }
        // A second call finds the provider installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = Client::builder()
            .user_agent(concat!("backstop/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .http1_only()
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(connect.timeout)
            .pool_idle_timeout(Duration::from_mins(5));
        if let Some(proxy) = &connect.proxy {
            client = client.proxy(reqwest::Proxy::all(proxy).map_err(|error| bad(reason(&error)))?);
        }
        let client = client.build().map_err(|error| bad(reason(&error)))?;
        let shown = base.as_str().trim_end_matches('/').to_owned();
        Ok(Self {
            client,
            shown,
            timeout: connect.timeout,
            rests_until: Mutex::default(),
        })
    }

    pub(super) fn url(&self) -> &str {
        &self.shown
    }

    pub(super) fn nonsense(&self, reason: String) -> RemoteError {
        RemoteError::Protocol {
            url: self.shown.clone(),
            reason,
        }
    }

    pub(super) fn unreachable(&self, reason: impl Into<String>) -> RemoteError {
        RemoteError::Unreachable {
            url: self.shown.clone(),
            reason: reason.into(),
        }
    }

    pub(super) fn refused(&self, problem: Problem) -> RemoteError {
        RemoteError::Refused {
            url: self.shown.clone(),
            problem: Box::new(problem),
        }
    }

    /// Waits as long as the server asked for with its last refusal. A record never waits: whoever writes is not limited, and a
    /// hop on the way must not hold the node up with a word that nobody signed.
    async fn rest(&self, method: &Method, path: &str) {
        let until = *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = until.filter(|_| (method, path) != (&Method::POST, RECORDS)) {
            tokio::time::sleep_until(until).await;
        }
    }

    /// For how long the server asked to be left alone still; the next call waits for it.
    pub(super) fn rest_left(&self) -> Duration {
        let until = *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(Instant::now())
        })
    }

    /// Remembers that the server asked for a rest.
    fn hear(&self, status: StatusCode, headers: &header::HeaderMap) {
        if status != StatusCode::TOO_MANY_REQUESTS {
            return;
        }
        let seconds = headers.get(header::RETRY_AFTER);
        let seconds = seconds.and_then(|value| value.to_str().ok()?.parse().ok());
        let wait = Duration::from_secs(seconds.unwrap_or(1)).min(LONGEST_WAIT);
        let mut until = self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        *until = Some(Instant::now() + wait);
    }

    /// Sends one request and reads the whole answer, at most `most` bytes of it. The server may take `wait` longer to
    /// begin than it otherwise may.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Body<'_>,
        authorization: Option<String>,
        most: usize,
        wait: Duration,
    ) -> Result<RawAnswer, RemoteError> {
        self.rest(&method, path).await;
        let mut request = self.client.request(method, format!("{}{path}", self.shown));
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let patience = self.timeout + wait + Duration::from_secs(body.len() / SLOWEST_LINE);
        let body = body
            .to_reqwest()
            .map_err(|error| self.unreachable(format!("what is to be sent cannot be read: {error}")))?;
        let mut response = self.within(patience, request.body(body).send()).await?;
        let status = response.status();
        self.hear(status, response.headers());
        let mac = response.headers().get(MAC_HEADER).and_then(|value| {
            let mut mac = [0; 32];
            hex::decode_to_slice(value.as_bytes(), &mut mac)
                .ok()
                .map(|()| mac)
        });
        // What is announced is made room for once: a buffer that grows holds twice as much at its end.
        let announced = response
            .content_length()
            .and_then(|len| usize::try_from(len).ok());
        let mut body = BytesMut::with_capacity(mapped::capacity(announced.unwrap_or(0).min(most)));
        while let Some(piece) = self.within(self.timeout, response.chunk()).await? {
            if body.len() + piece.len() > most {
                return Err(self.nonsense(format!("more than {most} bytes")));
            }
            body.extend_from_slice(&piece);
        }
        Ok(RawAnswer {
            status,
            mac,
            body: body.freeze(),
        })
    }

    /// Waits for one step of a call; a connection that is only half there ends here.
    async fn within<T>(
        &self,
        patience: Duration,
        step: impl Future<Output = Result<T, reqwest::Error>>,
    ) -> Result<T, RemoteError> {
        match tokio::time::timeout(patience, step).await {
            Ok(done) => done.map_err(|error| self.unreachable(reason(&error))),
            Err(_) => Err(self.unreachable(format!("silence for {} s", patience.as_secs()))),
        }
    }

    /// An unauthenticated `GET` of a JSON document.
    pub(super) async fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, RemoteError> {
        let answer = self
            .send(
                Method::GET,
                path,
                Bytes::new().into(),
                None,
                JSON_MAX,
                Duration::ZERO,
            )
            .await?;
        if answer.status.is_success() {
            return serde_json::from_slice(&answer.body).map_err(|error| self.nonsense(error.to_string()));
        }
        match answer.problem() {
            Some(problem) => Err(self.refused(problem)),
            None => Err(self.nonsense(format!("status {}", answer.status))),
        }
    }
}

fn is_onion(host: &str) -> bool {
    host.trim_end_matches('.')
        .to_ascii_lowercase()
        .ends_with(".onion")
}

/// A SOCKS5 proxy that is given names, not addresses: who looks names up here tells the network whom the node talks to.
fn is_socks(proxy: &str) -> bool {
    Url::parse(proxy).is_ok_and(|url| url.scheme() == "socks5h" && url.host().is_some())
}

/// What reqwest saw, down to its cause; without the URL, which the caller names.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it took too long".to_owned();
    }
    let mut deepest: &dyn std::error::Error = error;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    deepest.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str, proxy: Option<&str>) -> Option<String> {
        let connect = Connect::through(proxy.map(str::to_owned));
        Http::new(url, &connect).err().map(|error| error.to_string())
    }

    #[test]
    fn an_onion_service_without_a_proxy_is_refused_with_what_to_set() {
        for url in ["http://abc.onion", "https://abc.ONION.:8750/x"] {
            let said = refused(url, None).unwrap();
            assert!(said.contains("--proxy socks5h://127.0.0.1:9050"), "{said}");
            assert_eq!(refused(url, Some("socks5h://127.0.0.1:9050")), None);
        }
        assert_eq!(refused("http://onion.example", None), None);
    }

    #[test]
    fn a_proxy_that_would_leave_names_to_this_machine_is_refused() {
        for proxy in [
            "socks5://127.0.0.1:9050",
            "http://127.0.0.1:8118",
            "127.0.0.1:9050",
            "",
        ] {
            let said = refused("http://server", Some(proxy)).unwrap();
            assert!(said.contains("socks5h://127.0.0.1:9050"), "{said}");
        }
    }

    /// A server that refuses the first call for so many seconds; when each call came.
    async fn busy(seconds: u64) -> (Http, tokio::sync::mpsc::Receiver<Instant>) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", socket.local_addr().unwrap());
        let (came, calls) = tokio::sync::mpsc::channel(9);
        tokio::spawn(async move {
            let mut first = true;
            while let Ok((mut stream, _)) = socket.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    assert_ne!(stream.read_buf(&mut head).await.unwrap(), 0);
                }
                came.send(Instant::now()).await.unwrap();
                let status = if first { "429 Wait" } else { "200 OK" };
                first = false;
                let answer = format!(
                    "HTTP/1.1 {status}\r\nretry-after: {seconds}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (Http::new(&url, &Connect::default()).unwrap(), calls)
    }

    async fn call(http: &Http, method: Method, path: &str) -> StatusCode {
        let body = Bytes::new().into();
        let sent = http
            .send(method, path, body, None, JSON_MAX, Duration::ZERO)
            .await;
        sent.unwrap().status
    }

    #[tokio::test]
    async fn a_server_that_asks_for_a_rest_gets_it_before_the_next_call() {
        let (http, mut calls) = busy(2).await;
        assert_eq!(call(&http, Method::GET, "/v1/info").await, 429);
        assert_eq!(call(&http, Method::GET, "/v1/info").await, 200);
        let (first, second) = (calls.recv().await.unwrap(), calls.recv().await.unwrap());
        assert!(second - first >= Duration::from_secs(2));
    }

    #[tokio::test]
    async fn a_record_waits_for_no_such_word() {
        let (http, mut calls) = busy(86_400).await;
        assert_eq!(call(&http, Method::GET, "/v1/info").await, 429);
        assert_eq!(call(&http, Method::POST, RECORDS).await, 200);
        calls.recv().await.unwrap();
        calls.recv().await.unwrap();
        let until = http.rests_until.lock().unwrap().unwrap();
        assert!(
            until - Instant::now() <= LONGEST_WAIT,
            "nobody is held up for a day"
        );
    }

    #[test]
    fn a_proxy_gets_more_time() {
        assert!(Connect::through(Some("socks5h://p:1".into())).timeout > Connect::through(None).timeout);
        assert_eq!(Connect::through(None), Connect::default());
    }
}
