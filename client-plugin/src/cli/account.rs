//! What a server says of a node's account, as a person says it.

use crate::plugin::Utc;
use backstop_protocol::api::AccountState;

/// What the last comparison found, as a person says it.
pub(super) fn proof(account: &AccountState) -> String {
    match account.proof {
        None => "  proof    none yet: the next start of lightningd compares the backup with the database"
            .to_owned(),
        Some(proof) => format!(
            "  proof    {} the database at record {}, {} ago",
            if proof.equal { "equal to" } else { "DIFFERENT from" },
            proof.seq,
            ago(account.time.millis_since(proof.at) / 1000)
        ),
    }
}

/// When the head arrived, as a person says it.
pub(super) fn age(account: &AccountState) -> String {
    match account.head_received_at {
        None => "nothing received yet".to_owned(),
        Some(at) => {
            let ago = ago(account.time.millis_since(at) / 1000);
            format!("received {ago} ago ({})", Utc(at))
        }
    }
}

/// A while, in the unit that suits it.
pub(super) fn ago(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
