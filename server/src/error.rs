//! The one way in which a request fails: an [`ApiError`], which becomes a problem document (SPEC 7.3).

use crate::{
    packs::PackError,
    store::{Refusal, StoreError},
};
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use backstop_protocol::{
    api::AUTH_SCHEME,
    bytes::Malformed,
    grant::BadGrant,
    problem::{PROBLEM_JSON, Problem, ProblemCode},
    removal::BadRemoval,
    session::BadOpening,
};
use std::{error::Error, time::Duration};

/// Why a request was refused, or failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("{0}")]
    Malformed(String),
    #[error("{0}")]
    Unauthenticated(&'static str),
    #[error("the session has expired; open it again")]
    SessionExpired,
    #[error("the MAC does not fit the request")]
    BadMac,
    #[error("{0}")]
    BadOpening(String),
    #[error("{0}")]
    GrantInvalid(String),
    #[error("{0}")]
    RemovalInvalid(String),
    #[error("too many requests; ask again in {} seconds", seconds(*.0))]
    TooManyRequests(Duration),
    #[error("this session may only read")]
    ReadOnly,
    #[error("there is nothing at this path")]
    NoSuchPath,
    #[error("there is no such pack or snapshot")]
    NotFound,
    #[error("this path does not take this method")]
    MethodNotAllowed,
    #[error("the body did not arrive in time")]
    Timeout,
    #[error("at most {0} bytes are taken here")]
    TooLarge(usize),
    #[error("the body's SHA-256 is not the name of the pack")]
    HashMismatch,
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("there is no room; nothing was changed")]
    StorageFull,
    #[error("{0}")]
    Unavailable(String),
    #[error("the request could not be completed; nothing says that it was")]
    Internal(#[source] Box<dyn Error + Send + Sync>),
}

/// Whole seconds, one at least.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(1)
}

impl ApiError {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "stands where a function of an error is asked for"
    )]
    pub(crate) fn malformed(what: impl ToString) -> Self {
        Self::Malformed(what.to_string())
    }

    fn code(&self) -> ProblemCode {
        match self {
            Self::Malformed(_) => ProblemCode::Malformed,
            Self::Unauthenticated(_) => ProblemCode::Unauthenticated,
            Self::SessionExpired => ProblemCode::SessionExpired,
            Self::BadMac => ProblemCode::BadMac,
            Self::BadOpening(_) => ProblemCode::BadOpening,
            Self::GrantInvalid(_) => ProblemCode::GrantInvalid,
            Self::RemovalInvalid(_) => ProblemCode::RemovalInvalid,
            Self::TooManyRequests(_) => ProblemCode::TooManyRequests,
            Self::ReadOnly => ProblemCode::ScopeInsufficient,
            Self::NoSuchPath | Self::NotFound => ProblemCode::NotFound,
            Self::MethodNotAllowed => ProblemCode::MethodNotAllowed,
            Self::Timeout => ProblemCode::Timeout,
            Self::TooLarge(_) => ProblemCode::TooLarge,
            Self::HashMismatch => ProblemCode::HashMismatch,
            Self::StorageFull => ProblemCode::StorageFull,
            Self::Unavailable(_) => ProblemCode::Unavailable,
            Self::Internal(_) => ProblemCode::Internal,
            Self::Refused(refusal) => match refusal {
                Refusal::NotFound => ProblemCode::NotFound,
                Refusal::GrantMissing => ProblemCode::GrantMissing,
                Refusal::GrantRevoked => ProblemCode::GrantRevoked,
                Refusal::GrantExpired => ProblemCode::GrantExpired,
                Refusal::ScopeInsufficient => ProblemCode::ScopeInsufficient,
                Refusal::EpochMismatch { .. } => ProblemCode::EpochMismatch,
                Refusal::OtherInstance { .. } => ProblemCode::OtherInstance,
                Refusal::Fenced { .. } => ProblemCode::Fenced,
                Refusal::ServerRestored { .. } => ProblemCode::ServerRestored,
                Refusal::WrongTimeline => ProblemCode::WrongTimeline,
                Refusal::NotNext { .. } => ProblemCode::NotNext,
                Refusal::NotOnChain { .. } => ProblemCode::NotOnChain,
                Refusal::ChunksMissing(_) => ProblemCode::ChunksMissing,
                Refusal::RegistrationClosed => ProblemCode::RegistrationClosed,
                Refusal::QuotaExceeded { .. } => ProblemCode::QuotaExceeded,
                Refusal::BadRemoval(_) => ProblemCode::RemovalInvalid,
                Refusal::BadClaim(_) | Refusal::BadProof(_) | Refusal::BadCommit(_) => ProblemCode::Malformed,
            },
        }
    }

    /// The document. What failed inside is not in it: that is for the log.
    fn problem(&self) -> Problem {
        let mut problem = Problem::new(self.code(), self.to_string());
        match self {
            Self::Refused(Refusal::EpochMismatch { epoch, head, since }) => {
                problem.epoch = Some(*epoch);
                problem.head = Some(*head);
                problem.since = *since;
            }
            Self::Refused(
                Refusal::OtherInstance { epoch, since } | Refusal::ServerRestored { epoch, since },
            ) => {
                problem.epoch = Some(*epoch);
                problem.since = Some(*since);
            }
            Self::Refused(Refusal::Fenced { epoch, since }) => {
                problem.epoch = Some(*epoch);
                problem.since = *since;
            }
            Self::Refused(Refusal::NotNext { head }) => problem.head = Some(*head),
            Self::Refused(Refusal::ChunksMissing(missing)) => problem.missing.clone_from(missing),
            _ => {}
        }
        problem
    }

    /// Once, here, where every failure passes; the request's span says which request it was.
    pub(crate) fn log(&self) {
        let code = self.code().as_str();
        match self {
            Self::Internal(cause) => {
                let mut causes = cause.to_string();
                let mut next = cause.source();
                while let Some(cause) = next {
                    causes = format!("{causes}: {cause}");
                    next = cause.source();
                }
                tracing::error!(code, causes, "failed");
            }
            Self::StorageFull | Self::Unavailable(_) => tracing::warn!(code, detail = %self, "refused"),
            _ => tracing::info!(code, "refused"),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let problem = self.problem();
        let code = problem.code;
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // A problem is plain data: writing it as JSON cannot fail.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        // For the counts: whoever counts sees answers, not errors.
        response.extensions_mut().insert(code);
        if let Self::TooManyRequests(wait) = self {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, seconds(wait).into());
        }
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static(AUTH_SCHEME);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(refusal) => Self::Refused(refusal),
            StoreError::Full => Self::StorageFull,
            StoreError::Unavailable(why) => {
                tracing::warn!(why, "the store cannot answer");
                Self::Unavailable("the store cannot answer now; try again".to_owned())
            }
            StoreError::Failed(cause) => Self::Internal(cause),
        }
    }
}

impl From<PackError> for ApiError {
    fn from(error: PackError) -> Self {
        match error {
            PackError::Full => Self::StorageFull,
            PackError::OutOfRange(_) => Self::malformed(error),
            PackError::Unavailable(why) => {
                tracing::warn!(why, "the pack store cannot answer");
                Self::Unavailable("the pack store cannot answer now; try again".to_owned())
            }
            PackError::Failed(cause) => Self::Internal(Box::new(cause)),
        }
    }
}

impl From<Malformed> for ApiError {
    fn from(error: Malformed) -> Self {
        Self::malformed(error)
    }
}

impl From<BadOpening> for ApiError {
    fn from(error: BadOpening) -> Self {
        Self::BadOpening(error.to_string())
    }
}

impl From<BadRemoval> for ApiError {
    fn from(error: BadRemoval) -> Self {
        Self::RemovalInvalid(error.to_string())
    }
}

impl From<BadGrant> for ApiError {
    fn from(error: BadGrant) -> Self {
        Self::GrantInvalid(error.to_string())
    }
}
