use super::{
    testing::{Lightningd, result, serve},
    *,
};
use proptest::prelude::*;
use std::os::unix::net::UnixListener;

const NODE: &str = "026f61d7ee82f937f9697f4f3e44bfaaa25849cc4f526b3a57326130eba6346002";

fn ask(answer: &str) -> Result<Vec<String>, RpcError> {
    Lightningd::answering(&[answer.to_owned()])
        .rpc()
        .listconfigs("alias")
}

#[test]
fn each_call_sends_one_request_and_reads_its_result() {
    let lightningd = Lightningd::answering(&[
        result(
            &json!({ "id": NODE, "network": "regtest", "version": "v26.06", "lightning-dir": "/l/regtest", "alias": "x" }),
        ),
        result(&json!({ "secret": "07".repeat(32) })),
        result(&json!({ "signature": "00", "recid": "01", "zbase": "d9" })),
        result(
            &json!({ "configs": { "important-plugin": { "values_str": ["/a", "/b"], "sources": ["x", "y"] } } }),
        ),
        result(&json!({ "configs": { "wallet": { "value_str": "sqlite3://x", "source": "cmdline" } } })),
        result(&json!({ "configs": {} })),
    ]);
    let rpc = lightningd.rpc();
    let info = rpc.getinfo().unwrap();
    assert_eq!(
        (info.id.to_string().as_str(), info.network.as_str()),
        (NODE, "regtest")
    );
    assert_eq!(info.net_dir, Path::new("/l/regtest"));
    assert_eq!(*rpc.makesecret(b"backstop").unwrap(), [7; 32]);
    assert_eq!(rpc.signmessage("text").unwrap(), "d9");
    assert_eq!(rpc.listconfigs("important-plugin").unwrap(), ["/a", "/b"]);
    assert_eq!(rpc.listconfigs("wallet").unwrap(), ["sqlite3://x"]);
    assert!(rpc.listconfigs("wallet").unwrap().is_empty());

    let requests = lightningd.requests();
    let sent: Vec<_> = requests
        .iter()
        .map(|r| (r["method"].as_str().unwrap(), &r["params"]))
        .collect();
    assert_eq!(
        sent[1],
        ("makesecret", &json!({ "hex": hex::encode("backstop") }))
    );
    assert_eq!(sent[2], ("signmessage", &json!({ "message": "text" })));
    assert_eq!(sent[3], ("listconfigs", &json!({ "config": "important-plugin" })));
    assert!(requests.iter().all(|request| request["jsonrpc"] == "2.0"));
}

#[test]
fn an_error_of_lightningd_is_told_in_its_words() {
    let answer = json!({ "jsonrpc": "2.0", "id": ID, "error": { "code": -32601, "message": "Unknown command 'x'", "data": {} } });
    let error = ask(&answer.to_string()).unwrap_err();
    assert!(matches!(error, RpcError::Refused { code: -32601, .. }));
    assert!(error.to_string().contains("Unknown command 'x'"));
}

#[test]
fn an_answer_that_is_cut_or_foreign_or_nonsense_is_an_error() {
    assert!(matches!(ask(""), Err(RpcError::Io { .. })));
    assert!(matches!(
        ask("{\"jsonrpc\":\"2.0\",\"id\":\"back"),
        Err(RpcError::Io { .. })
    ));
    for answer in [
        "no JSON at all",
        "[]x",
        "{}",
        "{\"id\":\"backstop\"}",
        "{\"id\":\"backstop\",\"result\":{\"configs\":7}}",
        "{\"id\":\"other\",\"result\":{\"configs\":{}}}",
    ] {
        assert!(matches!(ask(answer), Err(RpcError::Nonsense { .. })), "{answer}");
    }
}

#[test]
fn an_error_about_a_secret_does_not_hold_it() {
    let secret = "5e".repeat(33);
    let lightningd = Lightningd::answering(&[
        result(&json!({ "secret": secret })),
        result(&json!({ "secret": [secret] })),
    ]);
    for _ in 0..2 {
        assert!(
            !lightningd
                .rpc()
                .makesecret(b"x")
                .unwrap_err()
                .to_string()
                .contains("5e5e")
        );
    }
}

#[test]
fn a_text_that_lightningd_would_sign_differently_is_never_sent() {
    let rpc = Rpc::new(Path::new("/nowhere"));
    for text in ["a\"b", "a\\b", "a\nb", "é"] {
        assert!(matches!(rpc.signmessage(text), Err(RpcError::Nonsense { .. })));
    }
}

#[test]
fn a_node_that_does_not_run_is_a_sentence_with_the_next_step() {
    let dir = tempfile::tempdir().unwrap();
    let error = Rpc::new(&dir.path().join("lightning-rpc")).getinfo().unwrap_err();
    assert!(matches!(error, RpcError::Connect { .. }));
    assert!(error.to_string().contains("start it"));
}

#[test]
fn a_node_that_is_silent_does_not_hold_anybody_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let _listener = UnixListener::bind(dir.path().join("rpc")).unwrap();
    let rpc = Rpc::new(&dir.path().join("rpc")).with_timeout(Duration::from_millis(20));
    assert!(matches!(
        rpc.getinfo(),
        Err(RpcError::Io {
            method: "getinfo",
            ..
        })
    ));
}

#[test]
fn a_socket_below_a_very_long_path_is_reached() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("d".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    // Bound under a short name and then moved: binding has the same limit.
    let listener = UnixListener::bind(dir.path().join("rpc")).unwrap();
    crate::durable::rename(&dir.path().join("rpc"), &deep.join("rpc")).unwrap();
    let thread = std::thread::spawn(move || serve(&listener, &result(&json!({ "configs": {} }))));
    assert!(Rpc::new(&deep.join("rpc")).listconfigs("x").unwrap().is_empty());
    thread.join().unwrap();
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[\\[\\]{}\":,0-9a-z\\\\ ]{0,80}") {
        let _ = parse::<NodeInfo>("getinfo", &bytes);
        let _ = parse::<serde_json::Value>("getinfo", text.as_bytes());
    }

    #[test]
    fn an_answer_cut_anywhere_is_incomplete_and_never_wrong(cut in 0..100_usize) {
        let whole = result(&json!({ "id": NODE, "network": "regtest", "version": "v26.06", "lightning-dir": "/l" }));
        let end = whole.trim_end().len();
        let cut = cut % end;
        prop_assert!(parse::<NodeInfo>("getinfo", &whole.as_bytes()[..cut]).unwrap().is_none());
        prop_assert!(parse::<NodeInfo>("getinfo", &whole.as_bytes()[..end]).unwrap().is_some());
    }
}
