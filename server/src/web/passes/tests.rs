//! Whose challenge counts where, and whose pass.

use super::*;
use getrandom::{SysRng, rand_core::UnwrapErr};
use proptest::prelude::*;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
const NODE: NodeId = NodeId([2; 33]);

fn later(millis: u64) -> UnixMillis {
    UnixMillis(NOW.0 + millis)
}

fn identity(byte: u8) -> IdentitySecret {
    IdentitySecret::from_bytes(&[byte; 32]).unwrap()
}

/// Of one process: each has a seed of its own.
fn passes(server: u8, store: u8, token: Option<&str>) -> Passes {
    let admin = token.map(|token| AdminToken::new(token.as_bytes()).unwrap());
    Passes::new(
        &identity(server),
        StoreId([store; 16]),
        admin,
        &mut UnwrapErr(SysRng),
    )
}

fn judge(passes: &Passes, login: &Login, secret: &str, now: UnixMillis) -> Result<(), Stale> {
    passes.judge(login, std::iter::once(secret), now)
}

#[test]
fn a_challenge_counts_in_its_own_browser_until_it_expires_at_every_process_of_the_server() {
    let (one, two) = (passes(1, 1, None), passes(1, 1, None));
    let (secret, login) = one.challenge(NODE, Network::Regtest, NOW);
    assert_eq!(login.expires_at, NOW.as_secs() + 600);
    for process in [&one, &two] {
        assert_eq!(judge(process, &login, &secret, NOW), Ok(()));
        assert_eq!(judge(process, &login, &secret, later(600_000)), Ok(()));
        assert_eq!(
            judge(process, &login, &secret, later(601_000)),
            Err(Stale::Expired)
        );
        // A browser without a cookie, with another's, with one of its own making.
        assert_eq!(
            process.judge(&login, std::iter::empty(), NOW),
            Err(Stale::Foreign)
        );
        for other in [
            "",
            "00",
            &secret.to_uppercase(),
            &one.challenge(NODE, Network::Regtest, NOW).0,
        ] {
            assert_eq!(judge(process, &login, other, NOW), Err(Stale::Foreign));
        }
    }
    for other in [passes(2, 1, None), passes(1, 2, None)] {
        assert_eq!(judge(&other, &login, &secret, NOW), Err(Stale::Foreign));
    }
}

#[test]
fn a_challenge_counts_for_what_it_was_made_for_alone() {
    let passes = passes(1, 1, None);
    let (secret, login) = passes.challenge(NODE, Network::Regtest, NOW);
    for changed in [
        Login {
            node: NodeId([3; 33]),
            ..login
        },
        Login {
            network: Network::Bitcoin,
            ..login
        },
        Login {
            expires_at: login.expires_at + 1,
            ..login
        },
        Login {
            server: ServerKey([1; 32]),
            ..login
        },
        Login {
            challenge: Challenge([1; 16]),
            ..login
        },
    ] {
        assert_eq!(judge(&passes, &changed, &secret, NOW), Err(Stale::Foreign));
    }
}

#[test]
fn no_two_challenges_are_alike() {
    let (one, two) = (passes(1, 1, None), passes(1, 1, None));
    let mut seen = std::collections::HashSet::new();
    for _ in 0..100 {
        for process in [&one, &two] {
            let (secret, login) = process.challenge(NODE, Network::Regtest, NOW);
            assert!(seen.insert(secret) && seen.insert(login.challenge.to_string()));
        }
    }
}

#[test]
fn a_login_is_used_once() {
    let passes = passes(1, 1, None);
    let (secret, login) = passes.challenge(NODE, Network::Regtest, NOW);
    assert!(passes.redeem(&login, AccountId(7), NOW).is_ok());
    assert_eq!(judge(&passes, &login, &secret, NOW), Err(Stale::Used));
    assert_eq!(passes.redeem(&login, AccountId(7), NOW), Err(Stale::Used));
}

#[test]
fn a_pass_is_good_for_an_hour_at_every_process_until_it_is_given_back() {
    let (one, two) = (passes(1, 1, None), passes(1, 1, None));
    let text = one.issue(Holder::Owner(AccountId(7)), NOW);
    for process in [&one, &two] {
        let pass = process.recognise(&text, NOW).unwrap();
        assert_eq!(pass.holder, Holder::Owner(AccountId(7)));
        assert!(process.recognise(&text, later(PASS_LIFE_MS - 1)).is_some());
        assert!(process.recognise(&text, later(PASS_LIFE_MS)).is_none());
    }
    for other in [passes(2, 1, None), passes(1, 2, None)] {
        assert!(other.recognise(&text, NOW).is_none());
    }
    one.give_back(&one.recognise(&text, NOW).unwrap());
    assert!(one.recognise(&text, NOW).is_none());
}

#[test]
fn an_operators_pass_ends_with_the_token_it_was_given_for() {
    let token = "correct horse battery";
    let with = |token| passes(1, 1, token);
    let text = with(Some(token)).issue(Holder::Operator, NOW);
    let holder = with(Some(token)).recognise(&text, NOW).unwrap().holder;
    assert_eq!(holder, Holder::Operator);
    assert!(
        with(Some("another horse battery"))
            .recognise(&text, NOW)
            .is_none()
    );
    assert!(with(None).recognise(&text, NOW).is_none());
    // A pass of the days without a token is none of an operator either.
    let before = with(None).issue(Holder::Operator, NOW);
    assert!(with(None).recognise(&before, NOW).is_none());
}

#[test]
fn a_token_is_what_its_file_holds_without_white_space_and_shows_itself_to_nobody() {
    let token = AdminToken::new(b"  0123456789abcdef\n").unwrap();
    assert!(token.is("0123456789abcdef") && token.is(" 0123456789abcdef\r\n"));
    assert!(!token.is("0123456789abcdeF") && !token.is(""));
    assert!(AdminToken::new(b" 0123456789abcde \n").is_err());
    assert!(AdminToken::new(&[b'x'; 257]).is_err());
    assert_eq!(format!("{token:?}"), "AdminToken(..)");
}

proptest! {
    #[test]
    fn a_pass_changed_anywhere_is_none(at in 0_usize..132, by in 1_usize..16) {
        let passes = passes(1, 1, Some("correct horse battery"));
        for holder in [Holder::Owner(AccountId(7)), Holder::Operator] {
            let mut text = passes.issue(holder, NOW).into_bytes();
            let digit = char::from(text[at]).to_digit(16).unwrap();
            text[at] = b"0123456789abcdef"[usize::try_from(digit).unwrap() ^ by];
            prop_assert!(passes.recognise(std::str::from_utf8(&text).unwrap(), NOW).is_none());
        }
    }

    #[test]
    fn no_text_makes_recognition_panic(text in ".*", hex in "[0-9a-f]{132}") {
        let passes = passes(1, 1, None);
        prop_assert!(passes.recognise(&text, NOW).is_none());
        prop_assert!(passes.recognise(&hex, NOW).is_none());
    }
}
