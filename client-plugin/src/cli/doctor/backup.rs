//! What `status` knows, as findings: each problem by itself, and what is only worth a thought.

use super::finding::Finding;
use crate::cli::status::Status;
use backstop_protocol::{api::AccountState, clock::UnixMillis};

/// A comparison older than this is worth a thought, milliseconds.
const PROOF_OLD: u64 = 7 * 24 * 3600 * 1000;
/// Clocks further apart than this are worth a thought, milliseconds.
const SKEW: u64 = 60_000;

/// What the servers and this directory show.
pub(super) fn findings(status: &Status, now: UnixMillis) -> Vec<Finding> {
    let mut findings: Vec<_> = status
        .problems
        .iter()
        .map(|problem| Finding::wrong("backup", problem))
        .chain(
            status
                .remarks
                .iter()
                .map(|remark| Finding::warning("backup", remark)),
        )
        .collect();
    if status.problems.is_empty() {
        findings.push(Finding::ok(
            "backup",
            "every commit is backed up before lightningd makes it",
        ));
    }
    for server in &status.servers {
        if let Some(account) = &server.account {
            findings.push(proof(&server.url, account));
            findings.push(clock(&server.url, account, now));
        }
    }
    findings
}

/// When the backup was last compared with the database; one that differed is among the problems.
fn proof(url: &str, account: &AccountState) -> Finding {
    let check = "proof";
    match account.proof {
        None => Finding::warning(
            check,
            format!(
                "what {url} has was never compared with the database: the next start of lightningd does it, and backstop verify \
                 tries a restore at any time"
            ),
        ),
        Some(proof) if account.time.millis_since(proof.at) > PROOF_OLD => Finding::warning(
            check,
            format!(
                "what {url} has was last compared with the database {} days ago: a restart of lightningd does it again, and \
                 backstop verify tries a restore at any time",
                account.time.millis_since(proof.at) / (24 * 3600 * 1000)
            ),
        ),
        Some(proof) => Finding::ok(check, format!("{url} was compared at record {}", proof.seq)),
    }
}

/// No rule depends on clocks; certificates, and what a person reads in logs, do.
fn clock(url: &str, account: &AccountState, now: UnixMillis) -> Finding {
    let skew = account.time.0.abs_diff(now.0);
    if skew > SKEW {
        return Finding::warning(
            "clock",
            format!(
                "this machine's clock and that of {url} are {} s apart. No rule of the backup depends on it; certificates and \
                 lightningd's own deadlines do. See timedatectl.",
                skew / 1000
            ),
        );
    }
    Finding::ok("clock", format!("this machine and {url} agree"))
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Level, *};
    use backstop_protocol::api::Proof;

    fn account(proof: Option<Proof>) -> AccountState {
        let text = r#"{"node":"02NODE","network":"regtest","epoch":1,"timeline":null,
            "head":{"epoch":0,"seq":0,"hash":"ZERO"},"head_received_at":null,"writer_since":null,"writer_seen_at":null,
            "first_seq":0,"log_bytes":0,"snapshot":null,"roll_up":false,"proof":null,"held_since":null,"files":null,
            "quota":null,"removal_at":null,"restored_since":null,"time":1800000000000}"#
            .replace("NODE", &"11".repeat(32))
            .replace("ZERO", &"00".repeat(32));
        AccountState {
            proof,
            ..serde_json::from_str(&text).unwrap()
        }
    }

    #[test]
    fn a_proof_that_is_missing_or_old_is_worth_a_thought() {
        let at = |days_ago: u64| {
            Some(Proof {
                at: UnixMillis(1_800_000_000_000 - days_ago * 24 * 3600 * 1000),
                seq: 7,
                equal: true,
            })
        };
        assert_eq!(proof("u", &account(None)).level, Level::Warning);
        assert_eq!(proof("u", &account(at(7))).level, Level::Ok);
        assert!(proof("u", &account(at(8))).says.contains("8 days ago"));
    }

    #[test]
    fn clocks_that_differ_by_more_than_a_minute_are_told() {
        let account = account(None);
        let level = |now| clock("u", &account, UnixMillis(now)).level;
        assert_eq!(level(1_800_000_060_000), Level::Ok);
        assert_eq!(level(1_799_999_939_999), Level::Warning);
    }
}
