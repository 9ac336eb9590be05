//! Refusals: RFC 9457 problem documents whose `code` is stable (SPEC 7.3).

use crate::{clock::UnixMillis, head::Head, id::ChunkId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Content type of a problem document.
pub const PROBLEM_JSON: &str = "application/problem+json";

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:literal, $title:literal;)*) => {
        /// Why a request was refused. The text form never changes; new ones may appear.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum ProblemCode {
            $($(#[$doc])* #[serde(rename = $code)] $name,)*
            /// A code that this program is too old to know.
            #[serde(other, rename = "unknown")]
            Unknown,
        }

        impl ProblemCode {
            /// Every code that a server of this version answers with.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The stable text form.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* Self::Unknown => "unknown" }
            }

            /// The HTTP status that goes with it.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* Self::Unknown => 500 }
            }

            /// One sentence without particulars.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* Self::Unknown => "The server refused for a reason unknown to this program." }
            }
        }
    };
}

codes! {
    /// The request is not what SPEC describes.
    Malformed = "malformed", 400, "The request is malformed.";
    /// No session, or a token that this server did not issue.
    Unauthenticated = "unauthenticated", 401, "The request belongs to no session.";
    /// The token's life is over: open the session again.
    SessionExpired = "session_expired", 401, "The session has expired.";
    /// The MAC does not fit the request.
    BadMac = "bad_mac", 401, "The request's MAC does not fit it.";
    /// The signature of an opening does not fit it, or it is meant for another server.
    BadOpening = "bad_opening", 401, "The session's opening is not signed as it must be.";
    /// The grant is not one, or another node signed it.
    GrantInvalid = "grant_invalid", 403, "The grant is not valid.";
    /// The grant's time is over.
    GrantExpired = "grant_expired", 403, "The grant has expired.";
    /// The grant's serial is below the node's floor.
    GrantRevoked = "grant_revoked", 403, "The grant was revoked.";
    /// The server has no grant for this key and account.
    GrantMissing = "grant_missing", 403, "The server knows no grant for this access key.";
    /// A read session cannot do this.
    ScopeInsufficient = "scope_insufficient", 403, "The session's scope does not allow this.";
    /// The node's word on its removal is not signed as it must be, not fresh, or meant for another account or server.
    RemovalInvalid = "removal_invalid", 403, "The removal is not valid.";
    /// This server takes no new nodes like this.
    RegistrationClosed = "registration_closed", 403, "The server takes no new nodes.";
    /// Nothing there, for this account.
    NotFound = "not_found", 404, "There is no such thing in this account.";
    /// The path exists, not for this method.
    MethodNotAllowed = "method_not_allowed", 405, "The method is not allowed here.";
    /// The request did not arrive in time.
    Timeout = "timeout", 408, "The request took too long to arrive.";
    /// The epoch is not the expected one; `epoch` and `head` tell what it is.
    EpochMismatch = "epoch_mismatch", 409, "The account is at another epoch than expected.";
    /// Another instance is the writer.
    OtherInstance = "other_instance", 409, "Another instance is this node's writer.";
    /// This session's run is no longer the writer.
    Fenced = "fenced", 409, "Another run has become this node's writer.";
    /// The server's own data are a copy of an earlier time: the node's owner must adopt it.
    ServerRestored = "server_restored", 409, "The server's data were restored from a copy.";
    /// The record does not continue the chain; `head` tells where it ends.
    NotNext = "not_next", 409, "The record does not continue the chain.";
    /// The record belongs to another timeline than the account.
    WrongTimeline = "wrong_timeline", 409, "The record belongs to another timeline.";
    /// The snapshot's base is not a record of the chain.
    NotOnChain = "not_on_chain", 409, "The snapshot's base is not on the chain.";
    /// The snapshot needs chunks that are not there; `missing` names some.
    ChunksMissing = "chunks_missing", 409, "The snapshot needs chunks that are not there.";
    /// Longer than the limit.
    TooLarge = "too_large", 413, "The body is longer than allowed.";
    /// A pack's bytes do not have the hash in its name.
    HashMismatch = "hash_mismatch", 422, "The body does not have the hash in its name.";
    /// Too many requests that are not appends.
    TooManyRequests = "too_many_requests", 429, "Too many requests.";
    /// The server failed; its log says why.
    Internal = "internal", 500, "The server failed.";
    /// The server cannot answer now.
    Unavailable = "unavailable", 503, "The server cannot answer now.";
    /// The account's room is used up, with its overdraft: nothing was changed. The operator may give more.
    QuotaExceeded = "quota_exceeded", 507, "The node's room on the server is used up.";
    /// No room: nothing was changed.
    StorageFull = "storage_full", 507, "The server's disk is full.";
}

impl fmt::Display for ProblemCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A problem document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:backstop:problem:<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code's sentence.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What a program decides by.
    pub code: ProblemCode,
    /// What happened this time, for a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Where the account's chain ends, with codes that speak of the chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<Head>,
    /// The account's epoch, with codes that speak of the writer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// When the present writer opened, by the server's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<UnixMillis>,
    /// Some of the chunks that are not there, at most [`crate::api::MISSING_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<ChunkId>,
}

impl Problem {
    /// A problem with nothing but its code and what happened.
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:backstop:problem:{code}"),
            title: code.title().to_owned(),
            status: code.status(),
            code,
            detail: detail.into(),
            head: None,
            epoch: None,
            since: None,
            missing: Vec::new(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.detail.is_empty() {
            write!(f, "{} ({})", self.title, self.code)
        } else {
            write!(f, "{} {} ({})", self.title, self.detail, self.code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_read_as_it_was_written() {
        for code in ProblemCode::ALL {
            let problem = Problem::new(*code, "why");
            let json = serde_json::to_string(&problem).unwrap();
            assert!(json.contains(code.as_str()));
            assert_eq!(serde_json::from_str::<Problem>(&json).unwrap(), problem);
        }
    }

    #[test]
    fn a_code_from_the_future_is_unknown_and_not_an_error() {
        let code: ProblemCode = serde_json::from_str("\"moon_in_the_way\"").unwrap();
        assert_eq!(code, ProblemCode::Unknown);
    }
}
