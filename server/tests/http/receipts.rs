//! Receipts: the head under the server's own signature.

use crate::support::{Node, TestServer};
use backstop_protocol::{
    api,
    head::Head,
    problem::ProblemCode,
    receipt::{BadReceipt, Receipt, SignedReceipt},
};

#[tokio::test]
async fn a_receipt_says_what_is_durable_and_is_signed_by_the_key_that_clients_pin() {
    let server = TestServer::start().await;
    let node = Node::new(1);
    let mut writer = node.first(&server).await;
    let empty: SignedReceipt = writer.call("GET", api::RECEIPT, b"").await.json();
    let stated = *empty.verify().unwrap();
    assert_eq!((stated.timeline, stated.head), (None, Head::EMPTY));
    writer.append(1).await;
    writer.append(2).await;
    let state = writer.state().await;
    let mut reader = node.open(&server, node.read_opening(&server)).await;
    let signed: SignedReceipt = reader.call("GET", api::RECEIPT, b"").await.json();
    let want = Receipt {
        version: 1,
        server: server.key,
        node: node.id(),
        network: state.network,
        timeline: state.timeline,
        head: state.head,
        time: state.time,
    };
    assert_eq!(signed.verify(), Ok(&want));
    let more = Head { seq: 3, ..want.head };
    let forged = SignedReceipt {
        receipt: Receipt { head: more, ..want },
        ..signed
    };
    assert_eq!(forged.verify(), Err(BadReceipt::Signature));
    let answer = server.request("GET", api::RECEIPT, b"").await;
    answer.refused(ProblemCode::Unauthenticated);
}
