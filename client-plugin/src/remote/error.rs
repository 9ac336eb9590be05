//! What can go wrong between here and a server.

use backstop_protocol::problem::{Problem, ProblemCode};

/// Why a call did not succeed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The URL or the proxy cannot be used at all.
    #[error("{url} is not a server's address: {reason}")]
    BadUrl {
        /// What was given.
        url: String,
        /// Why it is none.
        reason: String,
    },
    /// The server did not answer, or not with anything that proves it was the server: try again.
    #[error("no answer from {url}: {reason}")]
    Unreachable {
        /// The server.
        url: String,
        /// What was seen instead of an answer.
        reason: String,
    },
    /// The server refused, and proved that it was the server.
    #[error("{url} refused: {problem}")]
    Refused {
        /// The server.
        url: String,
        /// Its reason.
        problem: Box<Problem>,
    },
    /// The server answered something that SPEC forbids.
    #[error("{url} answered what no Backstop server answers: {reason}")]
    Protocol {
        /// The server.
        url: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// Our own key cannot sign.
    #[error("the access key cannot be used")]
    Key,
}

impl RemoteError {
    /// The code of a refusal.
    #[must_use]
    pub fn code(&self) -> Option<ProblemCode> {
        match self {
            Self::Refused { problem, .. } => Some(problem.code),
            _ => None,
        }
    }

    /// Whether the same call may succeed later without anybody doing anything here.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Protocol { .. } => true,
            Self::BadUrl { .. } | Self::Key => false,
            Self::Refused { problem, .. } => matches!(
                problem.code,
                ProblemCode::Unavailable
                    | ProblemCode::Internal
                    | ProblemCode::StorageFull
                    | ProblemCode::QuotaExceeded
                    | ProblemCode::Timeout
                    | ProblemCode::TooManyRequests
                    | ProblemCode::SessionExpired
                    | ProblemCode::Unauthenticated
                    | ProblemCode::BadMac
                    | ProblemCode::Unknown
            ),
        }
    }
}
