use super::*;

fn secret(byte: u8) -> IdentitySecret {
    IdentitySecret::from_bytes(&[byte; 32]).unwrap()
}

fn opening() -> Opening {
    Opening {
        server: secret(2).server_key(),
        node: NodeId([2; 33]),
        network: Network::Bitcoin,
        access_key: secret(1).access_key(),
        grant: None,
        scope: Scope::Append,
        writer: Some(WriterClaim {
            instance: InstanceId([3; 16]),
            run: RunId([4; 16]),
            expected_epoch: 6,
            epoch: 7,
            takeover: false,
        }),
        time: UnixMillis(8),
    }
}

#[test]
fn both_sides_derive_the_same_key_and_each_token_another() {
    for (a, b) in [(1, 2), (3, 4), (5, 6), (7, 8)] {
        let (client, server) = (secret(a), secret(b));
        let here = client.shared_with(&server.server_key().0).unwrap();
        let there = server.shared_with(&client.access_key().0).unwrap();
        assert_eq!(here.session_key("t").0, there.session_key("t").0);
        assert_ne!(here.session_key("t").0, there.session_key("u").0);
        assert_ne!(here.session_key("t").0, there.opening_key(b"t").0);
    }
}

#[test]
fn zero_is_no_secret() {
    assert!(IdentitySecret::from_bytes(&[0; 32]).is_err());
    assert!(IdentitySecret::from_bytes(&[0xff; 32]).is_err());
}

#[test]
fn every_field_of_an_opening_is_signed() {
    let signed = opening().sign(&secret(1), &[0; 32]).unwrap();
    assert!(signed.verify().is_ok());
    let claim = opening().writer.unwrap();
    let changed = [
        Opening {
            server: secret(9).server_key(),
            ..opening()
        },
        Opening {
            node: NodeId([3; 33]),
            ..opening()
        },
        Opening {
            network: Network::Regtest,
            ..opening()
        },
        Opening {
            access_key: secret(9).access_key(),
            ..opening()
        },
        Opening {
            grant: Some(SignedGrant {
                text: "x".into(),
                signature: "y".into(),
            }),
            ..opening()
        },
        Opening {
            scope: Scope::Read,
            ..opening()
        },
        Opening {
            writer: Some(WriterClaim {
                instance: InstanceId([9; 16]),
                ..claim
            }),
            ..opening()
        },
        Opening {
            writer: Some(WriterClaim {
                run: RunId([9; 16]),
                ..claim
            }),
            ..opening()
        },
        Opening {
            writer: Some(WriterClaim {
                expected_epoch: 9,
                ..claim
            }),
            ..opening()
        },
        Opening {
            writer: Some(WriterClaim { epoch: 9, ..claim }),
            ..opening()
        },
        Opening {
            writer: Some(WriterClaim {
                takeover: true,
                ..claim
            }),
            ..opening()
        },
        Opening {
            writer: None,
            ..opening()
        },
        Opening {
            time: UnixMillis(9),
            ..opening()
        },
    ];
    for opening in changed {
        let forged = SignedOpening {
            opening,
            ..signed.clone()
        };
        assert_eq!(forged.verify(), Err(BadOpening));
    }
}

#[test]
fn a_scope_that_does_not_fit_its_claim_is_refused_though_signed() {
    let read_with_claim = Opening {
        scope: Scope::Read,
        ..opening()
    }
    .sign(&secret(1), &[0; 32])
    .unwrap();
    let append_without = Opening {
        writer: None,
        ..opening()
    }
    .sign(&secret(1), &[0; 32])
    .unwrap();
    assert!(read_with_claim.verify().is_err());
    assert!(append_without.verify().is_err());
}

#[test]
fn every_part_of_a_request_and_of_an_answer_is_in_its_mac() {
    let key = secret(1)
        .shared_with(&secret(2).server_key().0)
        .unwrap()
        .session_key("t");
    let mac = key.request_mac("POST", "/v1/records", 1, &[0; 32]);
    assert_ne!(mac, key.request_mac("PUT", "/v1/records", 1, &[0; 32]));
    assert_ne!(mac, key.request_mac("POST", "/v1/record", 1, &[0; 32]));
    assert_ne!(mac, key.request_mac("POST", "/v1/records", 2, &[0; 32]));
    assert_ne!(mac, key.request_mac("POST", "/v1/records", 1, &[1; 32]));
    let answer = key.answer_mac(&mac, 200, &[0; 32]);
    assert_ne!(answer, key.answer_mac(&[0; 32], 200, &[0; 32]));
    assert_ne!(answer, key.answer_mac(&mac, 409, &[0; 32]));
    assert_ne!(answer, key.answer_mac(&mac, 200, &[1; 32]));
}
