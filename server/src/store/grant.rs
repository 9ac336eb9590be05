//! What a grant is worth at this moment (SPEC 4.2).

use super::Refusal;
use backstop_protocol::{
    clock::UnixMillis,
    grant::{Grant, Scope, SignedGrant},
};

/// A grant whose signature was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownGrant {
    /// What it says.
    pub grant: Grant,
    /// As it was shown.
    pub signed: SignedGrant,
}

/// Whether a grant allows a session of `scope`: not below the account's floor of serials, not expired by the
/// server's clock, and wide enough (an append grant allows reading).
pub fn judge_grant(grant: &Grant, scope: Scope, floor: u64, now: UnixMillis) -> Result<(), Refusal> {
    if grant.serial < floor {
        return Err(Refusal::GrantRevoked);
    }
    if grant.expires_at.is_some_and(|seconds| now.as_secs() > seconds) {
        return Err(Refusal::GrantExpired);
    }
    if grant.scope < scope {
        return Err(Refusal::ScopeInsufficient);
    }
    Ok(())
}

/// Whether one of the grants remembered for an account and a key allows a session of `scope`. Where none does, the
/// one with the highest serial, which comes first, says why.
pub fn judge_remembered(grants: &[Grant], scope: Scope, floor: u64, now: UnixMillis) -> Result<(), Refusal> {
    let mut why = Refusal::GrantMissing;
    for grant in grants.iter().rev() {
        match judge_grant(grant, scope, floor, now) {
            Ok(()) => return Ok(()),
            Err(refusal) => why = refusal,
        }
    }
    Err(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_protocol::id::{AccessKey, Network, NodeId};

    fn grant(serial: u64, scope: Scope, expires_at: Option<u64>) -> Grant {
        Grant {
            access_key: AccessKey([1; 32]),
            scope,
            node: NodeId([2; 33]),
            network: Network::Bitcoin,
            serial,
            expires_at,
        }
    }

    const NOW: UnixMillis = UnixMillis(100_500);

    #[test]
    fn a_grant_is_good_through_its_last_second_and_void_after_it() {
        let judge = |seconds| judge_grant(&grant(1, Scope::Append, Some(seconds)), Scope::Append, 0, NOW);
        assert_eq!(judge(100), Ok(()));
        assert_eq!(judge(99), Err(Refusal::GrantExpired));
    }

    #[test]
    fn an_append_grant_allows_reading_and_a_read_grant_does_not_allow_appending() {
        let judge = |has, wants| judge_grant(&grant(1, has, None), wants, 0, NOW);
        assert_eq!(judge(Scope::Append, Scope::Read), Ok(()));
        assert_eq!(judge(Scope::Read, Scope::Append), Err(Refusal::ScopeInsufficient));
    }

    #[test]
    fn a_grant_below_the_floor_is_revoked_and_one_at_the_floor_is_not() {
        let judge = |floor| judge_grant(&grant(5, Scope::Read, None), Scope::Read, floor, NOW);
        assert_eq!(judge(5), Ok(()));
        assert_eq!(judge(6), Err(Refusal::GrantRevoked));
    }

    #[test]
    fn any_good_grant_of_those_remembered_suffices_else_the_highest_serial_says_why() {
        let (wide, narrow) = (grant(1, Scope::Append, None), grant(3, Scope::Read, None));
        let old = grant(2, Scope::Append, Some(1));
        assert_eq!(
            judge_remembered(&[], Scope::Read, 0, NOW),
            Err(Refusal::GrantMissing)
        );
        assert_eq!(
            judge_remembered(&[narrow, old, wide], Scope::Append, 0, NOW),
            Ok(())
        );
        assert_eq!(
            judge_remembered(&[narrow, old], Scope::Append, 0, NOW),
            Err(Refusal::ScopeInsufficient)
        );
        assert_eq!(
            judge_remembered(&[old], Scope::Append, 0, NOW),
            Err(Refusal::GrantExpired)
        );
    }
}
