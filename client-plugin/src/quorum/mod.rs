//! All servers of a node: so many must hold a record before lightningd may commit it (design 5, SPEC 8.7).
//!
//! N of M servers, N more than half, let a writer open and hold what is acknowledged; M - N + 1 suffice for a takeover and a
//! restore, because among them is always one that has the last acknowledged record. Nothing here judges or replays: it opens, sends
//! and copies sealed records.

mod board;
mod claim;
mod copy;
mod door;
mod lane;
mod rule;
mod several;
mod stop;
mod survey;
mod takeover;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use claim::{Claimed, Held, Who, claim};
pub use copy::{Copied, CopyError, bring, newest, restores};
pub use door::{Door, Member, ServerDoor};
pub use lane::{News, Pace, Record};
pub use rule::Rule;
pub use several::{Around, Ended, Several};
pub use survey::{Answer, GRACE, open_all};
pub use takeover::Takeover;
