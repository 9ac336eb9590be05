//! One request, stopped on its way, so that something can happen at that very step.

use super::Direction;

/// A step of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// How the request begins, such as `PUT /v1/packs/`.
    pub request: &'static str,
    /// How far it has come.
    pub moment: Moment,
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The server has seen nothing of it.
    Asked,
    /// The server has its beginning and not its end; for requests above 16 KiB.
    Half,
    /// The server has answered, and the client has seen nothing of that.
    Answered,
}

/// The requests that passed, and the one that is stopped.
#[derive(Default)]
pub(super) struct Traffic {
    /// Method and path of each.
    seen: Vec<String>,
    trap: Option<Step>,
    /// The connection whose request has come to the trap, and has yet to come to its moment.
    followed: Option<u64>,
    /// What is stopped.
    stopped: Option<(u64, Direction)>,
}

impl Traffic {
    pub(super) fn stop_at(&mut self, step: Step) {
        self.release();
        self.trap = Some(step);
    }

    pub(super) fn release(&mut self) {
        (self.trap, self.followed, self.stopped) = (None, None, None);
    }

    pub(super) fn has_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    pub(super) fn count(&self, beginning: &str) -> usize {
        self.seen
            .iter()
            .filter(|request| request.starts_with(beginning))
            .count()
    }

    /// Whether what goes this way over a connection is stopped.
    pub(super) fn holds(&self, connection: u64, way: Direction) -> bool {
        self.stopped == Some((connection, way))
    }

    /// A piece comes by. Answers whether it is the one to be stopped.
    pub(super) fn see(&mut self, connection: u64, way: Direction, piece: &[u8]) -> bool {
        let request = match way {
            Direction::ToServer => request(piece),
            Direction::ToClient => None,
        };
        let stops = self.trap.is_some_and(|trap| {
            let begins = request.is_some_and(|request| request.starts_with(trap.request));
            match (trap.moment, way) {
                (Moment::Asked, Direction::ToServer) => begins,
                (Moment::Half, Direction::ToServer) => request.is_none() && self.followed == Some(connection),
                (Moment::Answered, Direction::ToClient) => self.followed == Some(connection),
                _ => false,
            }
        });
        if let Some(request) = request {
            if self.trap.is_some_and(|trap| request.starts_with(trap.request)) {
                self.followed = Some(connection);
            }
            self.seen.push(request.to_owned());
        }
        let stops = stops && self.stopped.is_none();
        if stops {
            self.stopped = Some((connection, way));
        }
        stops
    }
}

/// Method and path, where a piece begins a request. A client waits for each answer before it asks again, so a request
/// begins a piece.
fn request(piece: &[u8]) -> Option<&str> {
    let line = piece.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    line.strip_suffix(" HTTP/1.1")
}
