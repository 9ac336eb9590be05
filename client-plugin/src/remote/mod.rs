//! One server, over HTTP (SPEC 4.3, 4.4, 7).
//!
//! Only an answer that carries the session's MAC is believed; anything else, whatever it says, is no answer. So a hop
//! on plain HTTP can delay a node but can neither let it commit nor halt it.

mod body;
mod error;
mod http;
mod more;
mod reports;
mod session;
mod snapshots;

pub use body::BodyFile;
pub use error::RemoteError;
pub use http::Connect;
pub use session::{Identity, Session};

use backstop_protocol::{
    api::{self, KnownGrants, ServerInfo},
    grant::SignedGrant,
    id::{AccessKey, ServerKey},
};
use http::Http;

/// A server that can be asked what anyone may ask.
pub struct Server {
    http: Http,
}

impl Server {
    /// A server at `url` (`http://` or `https://`, host, optional port and path). Nothing is sent yet.
    pub fn new(url: &str, connect: &Connect) -> Result<Self, RemoteError> {
        Ok(Self {
            http: Http::new(url, connect)?,
        })
    }

    /// The URL in the form in which it is kept and shown.
    #[must_use]
    pub fn url(&self) -> &str {
        self.http.url()
    }

    /// What the server says about itself; not authenticated.
    pub async fn info(&self) -> Result<ServerInfo, RemoteError> {
        let info: ServerInfo = self.http.get_json(api::INFO).await?;
        if info.protocols.contains(&backstop_protocol::PROTOCOL_VERSION) {
            Ok(info)
        } else {
            Err(self.http.nonsense(format!(
                "it speaks protocols {:?}, this program 1",
                info.protocols
            )))
        }
    }

    /// The grants that the server was shown for an access key. The caller checks their signatures.
    pub async fn grants(&self, access_key: AccessKey) -> Result<Vec<SignedGrant>, RemoteError> {
        let known: KnownGrants = self
            .http
            .get_json(&format!("{}/{access_key}", api::GRANTS))
            .await?;
        Ok(known.grants)
    }

    /// The server's key: the pinned one, else what it says now.
    pub async fn key(&self, pinned: Option<ServerKey>) -> Result<ServerKey, RemoteError> {
        match pinned {
            Some(key) => Ok(key),
            None => Ok(self.info().await?.server),
        }
    }
}
