//! What can go wrong between here and a server.

use backstop_protocol::problem::Problem;

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The server did not answer, or not with anything that carries its MAC: try again.
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
    #[error("{url} answered nonsense: {reason}")]
    Protocol {
        /// The server.
        url: String,
        /// What is wrong with the answer.
        reason: String,
    },
}
