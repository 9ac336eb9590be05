//! The document that the server serves: against its routes, and against a fuzzer that knows nothing else of it.

use crate::{
    process::{Process, command},
    support::{TestServer, tools},
};
use std::process::Command;

#[tokio::test]
async fn what_the_document_has_is_there_and_what_it_lacks_is_not() {
    let server = TestServer::start().await;
    let answer = server.request("GET", "/openapi.json", b"").await;
    let document: serde_json::Value = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() > 10);
    for (path, methods) in paths {
        let place = path
            .replace("{access_key}", &"1".repeat(64))
            .replace("{pack}", &"1".repeat(64))
            .replace("{snapshot}", &"1".repeat(32));
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            let answer = server.request(method, &place, b"").await;
            let call = &methods[method.to_ascii_lowercase()];
            if call.is_null() {
                assert_eq!(answer.status, 405, "{method} {path}");
            } else if call["security"].is_array() {
                assert_eq!(answer.status, 401, "{method} {path}");
            } else {
                assert!(
                    [200, 400].contains(&answer.status),
                    "{method} {path}: {}",
                    answer.status
                );
            }
        }
    }
}

/// Bounded by the number of examples, not by time; the same ones each time. That a server takes whatever its schemas allow
/// is the one thing not asked: no schema tells 7.0 from 7, or a right signature from a wrong one.
#[tokio::test]
async fn a_fuzzer_that_reads_the_document_finds_nothing_that_contradicts_it() {
    let answer = TestServer::start()
        .await
        .request("GET", "/openapi.json", b"")
        .await;
    let document: serde_json::Value = answer.json();
    let methods = document["paths"].as_object().unwrap().values();
    let operations: usize = methods.map(|methods| methods.as_object().unwrap().len()).sum();
    // It does not ask for the document itself once more.
    let all = format!("Tested: {}\n", operations - 1);
    let (data, reports) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Nobody reads what it would say of every refusal.
    let mut command = command(data.path());
    command.args(["--log", "error"]);
    let process = Process::run(command);
    let mut fuzzer = Command::new(tools::found("schemathesis"));
    let document = format!("http://{}/openapi.json", process.place.addr);
    fuzzer
        .args([
            "run",
            &document,
            "--checks",
            "all",
            "--exclude-checks",
            "positive_data_acceptance",
        ])
        .args([
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            "25",
            "--seed",
            "1",
        ])
        .args([
            "--request-timeout",
            "30",
            "--no-shrink",
            "--generation-database",
            "none",
        ])
        .current_dir(reports.path())
        .env("NO_COLOR", "1");
    let output = fuzzer.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains(&all),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
