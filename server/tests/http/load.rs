//! Many sessions at once. The figure is printed, not judged: run it in release with `--nocapture`.

use crate::support::{Cluster, Node, TestServer};
use tokio::time::Instant;

const NODES: u8 = 64;
const RECORDS: u8 = 40;

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_nodes_that_append_at_once_are_each_acknowledged() {
    println!("{}", all_append(TestServer::start().await, "SQLite").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_nodes_that_append_at_once_are_each_acknowledged_by_postgresql_too() {
    let cluster = Cluster::shared();
    let url = cluster.url(&cluster.database());
    let server = TestServer::start_with(|config| config.database = Some(url.into())).await;
    println!("{}", all_append(server, "PostgreSQL").await);
}

/// What it took, for a person.
async fn all_append(server: TestServer, database: &str) -> String {
    let mut clients = Vec::new();
    for node in 1..=NODES {
        clients.push(Node::new(node).first(&server).await);
    }
    let began = Instant::now();
    let writers: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            tokio::spawn(async move {
                for fill in 0..RECORDS {
                    client.append(fill).await;
                }
                client
            })
        })
        .collect();
    let mut clients = Vec::new();
    for writer in writers {
        clients.push(writer.await.unwrap());
    }
    let appends = u32::from(NODES) * u32::from(RECORDS);
    let rate = f64::from(appends) / began.elapsed().as_secs_f64();
    for client in &mut clients {
        assert_eq!(client.state().await.head.seq, u64::from(RECORDS));
    }
    format!("{database}: {NODES} sessions: {appends} appends, {rate:.0} a second")
}
