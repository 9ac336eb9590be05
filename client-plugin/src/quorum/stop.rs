//! Why a lane stops, for a while or for good.

use super::board::Trouble;
use crate::remote::RemoteError;
use backstop_protocol::problem::ProblemCode;

/// Why a lane stopped.
pub(super) enum Stop {
    /// The run ends.
    Closed,
    /// Another run is the writer.
    Fenced(RemoteError),
    /// The server, or the one that was copied from.
    Trouble(Trouble),
    /// The server lost what it held of the node.
    Lost(Trouble),
}

impl From<RemoteError> for Stop {
    fn from(error: RemoteError) -> Self {
        match error.code() {
            Some(ProblemCode::Fenced | ProblemCode::OtherInstance | ProblemCode::EpochMismatch) => {
                Self::Fenced(error)
            }
            _ => Self::Trouble(Trouble {
                passing: error.is_passing(),
                reason: error,
            }),
        }
    }
}

impl Stop {
    /// Whoever takes the node over does so at an epoch above the writer's. A server that names a lower one, or knows nothing of the node,
    /// has lost data that it had: it is brought up to date like one that was never met, while the others go on.
    pub(super) fn or_lost(self, epoch: u64, url: &str) -> Self {
        let (Self::Fenced(reason) | Self::Trouble(Trouble { reason, .. })) = &self else {
            return self;
        };
        let RemoteError::Refused { problem, .. } = reason else {
            return self;
        };
        let is_older = problem.epoch.is_some_and(|theirs| theirs < epoch);
        match &self {
            Self::Fenced(_) if is_older => {}
            Self::Trouble(_) if problem.code == ProblemCode::NotFound => {}
            _ => return self,
        }
        Self::Lost(Trouble {
            reason: RemoteError::Protocol {
                url: url.to_owned(),
                reason: format!("it lost what it held of this node ({problem})"),
            },
            passing: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_protocol::problem::Problem;

    fn refused(code: ProblemCode, epoch: Option<u64>) -> Stop {
        let problem = Problem {
            epoch,
            ..Problem::new(code, "")
        };
        let error = RemoteError::Refused {
            url: "http://s".to_owned(),
            problem: Box::new(problem),
        };
        Stop::from(error).or_lost(7, "http://s")
    }

    #[test]
    fn a_refusal_at_a_lower_epoch_is_a_loss_and_at_a_higher_one_a_takeover() {
        for code in [
            ProblemCode::Fenced,
            ProblemCode::OtherInstance,
            ProblemCode::EpochMismatch,
        ] {
            assert!(matches!(refused(code, Some(6)), Stop::Lost(_)));
            assert!(matches!(refused(code, Some(8)), Stop::Fenced(_)));
            assert!(matches!(refused(code, None), Stop::Fenced(_)));
        }
        assert!(matches!(refused(ProblemCode::NotFound, None), Stop::Lost(_)));
        assert!(matches!(
            refused(ProblemCode::ServerRestored, Some(6)),
            Stop::Trouble(_)
        ));
    }
}
