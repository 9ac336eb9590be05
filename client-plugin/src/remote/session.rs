//! A session: opened by a signature, then a MAC on every request and every answer.

use super::{
    Connect, RemoteError,
    body::Body,
    http::{Http, RawAnswer},
};
use crate::{keys::Access, random::SharedRng};
use backstop_protocol::{
    api::{self, AccountState, Appended, SessionOpened},
    clock::{Clock, UnixMillis},
    grant::{Scope, SignedGrant},
    hash,
    id::{Network, NodeId, ServerKey},
    problem::ProblemCode,
    session::{Opening, PairSecret, SessionKey, WriterClaim},
};
use bytes::Bytes;
use reqwest::Method;
use serde::de::DeserializeOwned;
use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A token is renewed when less than this of its life is left.
const RENEW_BEFORE: Duration = Duration::from_mins(1);

/// Who opens sessions, and for which account.
pub struct Identity {
    /// The node's keys, of which the access key signs openings; or a device's own access key.
    pub keys: Arc<dyn Access>,
    /// The account's node.
    pub node: NodeId,
    /// The account's network.
    pub network: Network,
    /// What the node's key signed; `None` where the server remembers it.
    pub grant: Option<SignedGrant>,
    /// The invitation with which a server lets in a node that it does not know.
    pub invite: Option<String>,
}

/// An open session with one server.
pub struct Session {
    http: Http,
    server: ServerKey,
    pair: PairSecret,
    identity: Arc<Identity>,
    claim: Option<WriterClaim>,
    clock: Arc<dyn Clock>,
    rng: SharedRng,
    counter: AtomicU64,
    token: std::sync::RwLock<Arc<Token>>,
    /// One renewal at a time.
    renewing: tokio::sync::Mutex<()>,
}

/// How often an opening is tried where the server asks for a moment's patience.
const OPENINGS: u32 = 6;
/// The longest moment; who is asked for more patience is told.
const MOMENT: Duration = Duration::from_secs(3);

struct Token {
    text: String,
    key: SessionKey,
    until: Instant,
}

impl Session {
    /// Opens a session: for writing where there is a claim, else for reading. Also returns the account as it stands
    /// after the opening. The same claim may be sent again and again: it succeeds as long as it is the writer's.
    pub async fn open(
        url: &str,
        connect: &Connect,
        server: ServerKey,
        identity: Arc<Identity>,
        claim: Option<WriterClaim>,
        clock: Arc<dyn Clock>,
        rng: SharedRng,
    ) -> Result<(Self, AccountState), RemoteError> {
        let http = Http::new(url, connect)?;
        let pair = identity
            .keys
            .access()
            .shared_with(&server.0)
            .map_err(|_| RemoteError::BadUrl {
                url: url.to_owned(),
                reason: "its server key is no public key".to_owned(),
            })?;
        let unopened = Token {
            text: String::new(),
            key: pair.session_key(""),
            until: Instant::now(),
        };
        let session = Self {
            http,
            server,
            pair,
            identity,
            claim,
            clock,
            rng,
            counter: AtomicU64::new(1),
            token: std::sync::RwLock::new(Arc::new(unopened)),
            renewing: tokio::sync::Mutex::new(()),
        };
        let mut account = session.renew().await;
        for _ in 1..OPENINGS {
            // One person's command may open a dozen sessions; a server that wants a moment gets it.
            let moment = matches!(&account, Err(error) if error.code() == Some(ProblemCode::TooManyRequests))
                && session.http.rest_left() <= MOMENT;
            if !moment {
                break;
            }
            account = session.renew().await;
        }
        account.map(|account| (session, account))
    }

    /// The URL of the server.
    #[must_use]
    pub fn url(&self) -> &str {
        self.http.url()
    }

    /// The server's key.
    #[must_use]
    pub fn server(&self) -> ServerKey {
        self.server
    }

    /// The claim under which this session writes.
    #[must_use]
    pub fn claim(&self) -> Option<&WriterClaim> {
        self.claim.as_ref()
    }

    /// Opens the session again, with the same claim.
    pub async fn renew(&self) -> Result<AccountState, RemoteError> {
        let _one = self.renewing.lock().await;
        Box::pin(self.open_again()).await
    }

    /// The same, unless another task did it while this one waited for its turn.
    async fn renew_instead_of(&self, old: &Arc<Token>) -> Result<(), RemoteError> {
        let _one = self.renewing.lock().await;
        if Arc::ptr_eq(old, &self.token()) {
            Box::pin(self.open_again()).await?;
        }
        Ok(())
    }

    /// Opens with the grant at hand. Where that is valid no more, this key may have been given another one, which another
    /// command showed to the server: the one at hand is left out then.
    async fn open_again(&self) -> Result<AccountState, RemoteError> {
        let shown = self.identity.grant.clone();
        // Boxed, for it is in the future of every call.
        match Box::pin(self.open_with(shown.clone())).await {
            Err(error)
                if shown.is_some()
                    && matches!(
                        error.code(),
                        Some(ProblemCode::GrantRevoked | ProblemCode::GrantExpired)
                    ) =>
            {
                // Where no other grant helps, the first word says more.
                self.open_with(None)
                    .await
                    .map_err(|other| if other.is_passing() { other } else { error })
            }
            other => other,
        }
    }

    async fn open_with(&self, grant: Option<SignedGrant>) -> Result<AccountState, RemoteError> {
        let access = self.identity.keys.access();
        let opening = Opening {
            server: self.server,
            node: self.identity.node,
            network: self.identity.network,
            access_key: access.access_key(),
            grant,
            scope: if self.claim.is_some() {
                Scope::Append
            } else {
                Scope::Read
            },
            writer: self.claim,
            time: self.clock.now(),
        };
        let aux = self.rng.array();
        let mut signed = opening.sign(access, &aux).map_err(|_| RemoteError::Key)?;
        signed.invite.clone_from(&self.identity.invite);
        let body = serde_json::to_vec(&signed).map_err(|_| RemoteError::Key)?;
        let key = self.pair.opening_key(&body);
        let started = Instant::now();
        let answer = self
            .http
            .send(
                Method::POST,
                api::SESSIONS,
                Bytes::from(body).into(),
                None,
                api::JSON_MAX,
                Duration::ZERO,
            )
            .await?;
        if !proves(&answer, &key, &[0; 32]) {
            return Err(self.unproved(&answer));
        }
        if let Some(problem) = answer.problem() {
            return Err(self.http.refused(problem));
        }
        let opened: SessionOpened = self.parse(&answer)?;
        let life = Duration::from_millis(opened.expires_in_ms).saturating_sub(RENEW_BEFORE);
        let token = Token {
            key: self.pair.session_key(&opened.token),
            text: opened.token,
            until: started + life,
        };
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(token);
        Ok(opened.account)
    }

    /// The account as the server has it now.
    pub async fn account(&self) -> Result<AccountState, RemoteError> {
        self.json(Method::GET, api::HEAD, Bytes::new()).await
    }

    /// Appends one sealed record; success means that it is durable there (I1).
    pub async fn append(&self, sealed: Bytes) -> Result<Appended, RemoteError> {
        self.json(Method::POST, api::RECORDS, sealed).await
    }

    /// One page of records from `from` on, oldest first, each with the time at which the server received it;
    /// empty where there is none.
    pub async fn records(&self, from: u64) -> Result<Vec<(UnixMillis, Bytes)>, RemoteError> {
        self.page(&format!("{}?from={from}", api::RECORDS), Duration::ZERO)
            .await
    }

    /// The frames of a page of records, for which the server may take its time.
    pub(super) async fn page(
        &self,
        path: &str,
        wait: Duration,
    ) -> Result<Vec<(UnixMillis, Bytes)>, RemoteError> {
        let most = api::RECORD_PAGE + api::RECORD_MAX;
        let page = self
            .call_patiently(Method::GET, path, Bytes::new().into(), most, wait)
            .await?;
        let frames = api::parse_frames(&page).map_err(|error| self.http.nonsense(error.to_string()))?;
        Ok(frames
            .into_iter()
            .map(|(at, sealed)| (at, page.slice_ref(sealed)))
            .collect())
    }

    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, RemoteError> {
        let body = self.call(method, path, body, 1 << 20).await?;
        serde_json::from_slice(&body).map_err(|error| self.http.nonsense(error.to_string()))
    }

    /// One call within the session.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        most: usize,
    ) -> Result<Bytes, RemoteError> {
        self.call_patiently(method, path, body.into(), most, Duration::ZERO)
            .await
    }

    /// One call within the session, for which the server may take `wait` longer than for others; renews an old token, once.
    pub(super) async fn call_patiently(
        &self,
        method: Method,
        path: &str,
        body: Body<'_>,
        most: usize,
        wait: Duration,
    ) -> Result<Bytes, RemoteError> {
        let token = self.token();
        if token.until <= Instant::now() {
            self.renew_instead_of(&token).await?;
        }
        let token = self.token();
        match self.attempt(method.clone(), path, body.clone(), most, wait).await {
            Err(error) if error.code() == Some(ProblemCode::SessionExpired) => {
                self.renew_instead_of(&token).await?;
                self.attempt(method, path, body, most, wait).await
            }
            other => other,
        }
    }

    async fn attempt(
        &self,
        method: Method,
        path: &str,
        body: Body<'_>,
        most: usize,
        wait: Duration,
    ) -> Result<Bytes, RemoteError> {
        let token = self.token();
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        let mac = token
            .key
            .request_mac(method.as_str(), path, counter, &body.hash());
        let authorization = format!(
            "{} {} {counter} {}",
            api::AUTH_SCHEME,
            token.text,
            hex::encode(mac)
        );
        let answer = self
            .http
            .send(
                method,
                path,
                body,
                Some(authorization),
                most.max(api::JSON_MAX),
                wait,
            )
            .await?;
        if !proves(&answer, &token.key, &mac) {
            return Err(self.unproved(&answer));
        }
        match answer.problem() {
            Some(problem) => Err(self.http.refused(problem)),
            None if answer.status.is_success() => Ok(answer.body),
            None => Err(self
                .http
                .nonsense(format!("status {} without a reason", answer.status))),
        }
    }

    /// The present token. Not held over a call: one that hangs must not keep another from being renewed.
    fn token(&self) -> Arc<Token> {
        self.token.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An answer that SPEC forbids.
    pub(super) fn nonsense(&self, reason: &impl ToString) -> RemoteError {
        self.http.nonsense(reason.to_string())
    }

    fn parse<T: DeserializeOwned>(&self, answer: &RawAnswer) -> Result<T, RemoteError> {
        serde_json::from_slice(&answer.body).map_err(|error| self.http.nonsense(error.to_string()))
    }

    /// An answer that does not prove whose it is. An expired token cannot be answered with a MAC, and asking for a
    /// new one does no harm; everything else is as good as silence.
    fn unproved(&self, answer: &RawAnswer) -> RemoteError {
        match answer.problem() {
            Some(problem)
                if matches!(
                    problem.code,
                    ProblemCode::SessionExpired | ProblemCode::Unauthenticated
                ) =>
            {
                let mut problem = problem;
                problem.code = ProblemCode::SessionExpired;
                self.http.refused(problem)
            }
            Some(problem) => self
                .http
                .unreachable(format!("something between here and there says: {problem}")),
            None => self.http.unreachable(format!(
                "an answer that is not the server's (status {})",
                answer.status
            )),
        }
    }
}

fn proves(answer: &RawAnswer, key: &SessionKey, request_mac: &[u8; 32]) -> bool {
    answer.mac.is_some_and(|mac| {
        // A pack is long; what the hook waits for is not.
        let body = hash::sha256_in_turns(&answer.body);
        let want = key.answer_mac(request_mac, answer.status.as_u16(), &body);
        hash::same(&mac, &want)
    })
}
