//! Whom a server takes in. No SQL, no I/O.

use super::Refusal;
use backstop_protocol::{
    clock::UnixMillis,
    hash::{same, sha256},
};
use std::{fmt, str::FromStr};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Whom a server takes in that has no account yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Registration {
    /// Every node.
    #[default]
    Open,
    /// Nodes that show an invitation, and those that were allowed.
    Invite,
    /// Nodes that were allowed, and no other.
    Allowlist,
}

impl FromStr for Registration {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "open" => Ok(Self::Open),
            "invite" => Ok(Self::Invite),
            "allowlist" => Ok(Self::Allowlist),
            _ => Err("one of open, invite, allowlist"),
        }
    }
}

impl fmt::Display for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Invite => "invite",
            Self::Allowlist => "allowlist",
        })
    }
}

/// What every invitation starts with.
const PREFIX: &str = "backstop-invite-";

/// The public name of an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InviteId(pub [u8; 4]);

impl fmt::Display for InviteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for InviteId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut id = [0; 4];
        match hex::decode_to_slice(text, &mut id) {
            Ok(()) if !text.bytes().any(|byte| byte.is_ascii_uppercase()) => Ok(Self(id)),
            _ => Err("an invitation's name is 8 hex digits, as invite list shows it"),
        }
    }
}

/// An invitation as a person has it: its public name and its secret; wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct InviteToken {
    id: [u8; 4],
    secret: [u8; 16],
}

impl InviteToken {
    /// One of random bytes.
    #[must_use]
    pub fn new(id: [u8; 4], secret: [u8; 16]) -> Self {
        Self { id, secret }
    }

    /// Reads what [`Self::expose`] wrote; `None` where it is anything else.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('-')?;
        let mut token = Self::new(id.parse::<InviteId>().ok()?.0, [0; 16]);
        hex::decode_to_slice(secret, &mut token.secret).ok()?;
        Some(token)
    }

    /// The whole of it, for the person who is invited and nobody else.
    #[must_use]
    pub fn expose(&self) -> String {
        format!("{PREFIX}{}-{}", self.id(), hex::encode(self.secret))
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> InviteId {
        InviteId(self.id)
    }

    /// What a server remembers of it: 128 random bits are not found from their hash.
    #[must_use]
    pub fn shown(&self) -> ShownInvite {
        ShownInvite {
            id: self.id(),
            hash: sha256(&[&self.id[..], &self.secret[..]].concat()),
        }
    }
}

/// An invitation that an opening shows, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownInvite {
    /// Its name.
    pub id: InviteId,
    /// Of name and secret.
    pub hash: [u8; 32],
}

/// An invitation as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    /// Its name.
    pub id: InviteId,
    /// Of name and secret.
    pub hash: [u8; 32],
    /// The operator's own words.
    pub note: String,
    /// The quota of the nodes that it lets in; else the server's.
    pub quota: Option<u64>,
    /// How many nodes it lets in.
    pub uses: u64,
    /// How many it has let in.
    pub used: u64,
    /// When it was made.
    pub created_at: UnixMillis,
    /// From when on it is void.
    pub expires_at: Option<UnixMillis>,
    /// When it was revoked.
    pub revoked_at: Option<UnixMillis>,
}

impl Invite {
    /// Whether it lets one more node in. The secret is compared in constant time; a wrong one, an old one and one that is used
    /// up are told apart by nobody.
    #[must_use]
    pub fn admits(&self, shown: &ShownInvite, now: UnixMillis) -> bool {
        same(&self.hash, &shown.hash) & self.is_open(now)
    }

    /// Whether anybody can come with it still.
    #[must_use]
    pub fn is_open(&self, now: UnixMillis) -> bool {
        self.revoked_at.is_none() && self.used < self.uses && self.expires_at.is_none_or(|at| now < at)
    }
}

/// On what terms a node was let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// A quota of its own.
    pub quota: Option<u64>,
    /// The invitation that was used.
    pub invite: Option<InviteId>,
}

impl Registration {
    /// Judges a node that has no account. `allowed` is there where the node was allowed, with the quota it was given;
    /// `invite` is what is remembered under the name of the invitation that it shows. An invitation that is shown and is not
    /// good is refused even where the door is open: whoever was given one was given terms with it.
    pub fn admit(
        self,
        allowed: Option<Option<u64>>,
        shown: Option<(&ShownInvite, Option<&Invite>)>,
        now: UnixMillis,
    ) -> Result<Admission, Refusal> {
        if let Some(quota) = allowed {
            return Ok(Admission { quota, invite: None });
        }
        match (self, shown) {
            (Self::Open, None) => Ok(Admission::default()),
            (Self::Open | Self::Invite, Some((shown, Some(invite)))) if invite.admits(shown, now) => {
                Ok(Admission {
                    quota: invite.quota,
                    invite: Some(invite.id),
                })
            }
            _ => Err(Refusal::RegistrationClosed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Registration::{Allowlist, Invite as Invited, Open};

    fn token(secret: u8) -> InviteToken {
        InviteToken::new([1; 4], [secret; 16])
    }

    fn invite() -> Invite {
        let ShownInvite { id, hash } = token(2).shown();
        Invite {
            id,
            hash,
            note: String::new(),
            quota: Some(9),
            uses: 2,
            used: 1,
            created_at: UnixMillis(1),
            expires_at: Some(UnixMillis(100)),
            revoked_at: None,
        }
    }

    #[test]
    fn an_invitation_is_read_as_it_was_written_and_in_no_other_spelling() {
        let text = token(0xab).expose();
        assert_eq!(InviteToken::read(&text).unwrap().shown(), token(0xab).shown());
        for other in [
            text.to_uppercase(),
            format!("{text}0"),
            text.replace("invite", "grant"),
            String::new(),
        ] {
            assert!(InviteToken::read(&other).is_none(), "{other}");
        }
    }

    #[test]
    fn whoever_may_come_comes_on_its_own_terms() {
        let (shown, invite) = (token(2).shown(), invite());
        let good = Some((&shown, Some(&invite)));
        let at = UnixMillis(99);
        let invited = Ok(Admission {
            quota: Some(9),
            invite: Some(invite.id),
        });
        let closed = Err(Refusal::RegistrationClosed);
        let allowed = Ok(Admission {
            quota: Some(5),
            invite: None,
        });
        assert_eq!(Open.admit(None, None, at), Ok(Admission::default()));
        assert_eq!(Open.admit(None, good, at), invited);
        assert_eq!(Invited.admit(None, good, at), invited);
        assert_eq!(Invited.admit(None, None, at), closed);
        assert_eq!(Allowlist.admit(None, good, at), closed);
        for registration in [Open, Invited, Allowlist] {
            assert_eq!(registration.admit(Some(Some(5)), None, at), allowed);
        }
    }

    #[test]
    fn an_invitation_that_is_not_good_is_refused_alike_whatever_is_wrong_with_it() {
        let (shown, wrong) = (token(2).shown(), token(3).shown());
        let bad = [
            Invite { used: 2, ..invite() },
            Invite {
                expires_at: Some(UnixMillis(99)),
                ..invite()
            },
            Invite {
                revoked_at: Some(UnixMillis(5)),
                ..invite()
            },
        ];
        let good = invite();
        let mut cases: Vec<_> = bad.iter().map(|invite| (&shown, Some(invite))).collect();
        cases.extend([(&wrong, Some(&good)), (&shown, None)]);
        for registration in [Registration::Open, Registration::Invite] {
            for case in &cases {
                let refused = registration.admit(None, Some(*case), UnixMillis(99));
                assert_eq!(refused, Err(Refusal::RegistrationClosed));
            }
        }
    }
}
