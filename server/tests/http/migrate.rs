//! Databases that are older than the program, or are not there yet.

use crate::{
    process::{Process, command, command_over, fails, program},
    support::{Cluster, Node},
};
use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};
use std::path::Path;

/// As if the program were older by one migration.
async fn make_older(data: &Path) {
    let options = SqliteConnectOptions::new().filename(data.join("backstop.sqlite3"));
    let mut connection = options.connect().await.unwrap();
    let undo = "ALTER TABLE accounts DROP COLUMN restored_at; DELETE FROM _sqlx_migrations WHERE version = 6";
    sqlx::raw_sql(undo).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

fn migrated(data: &Path, more: &[&str]) {
    let mut migrate = program();
    migrate.args(["migrate", "--data"]).arg(data).args(more);
    for _ in 0..2 {
        let output = migrate.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("up to date"),
            "{output:?}"
        );
    }
}

#[tokio::test]
async fn an_older_database_is_brought_up_to_date_by_migrate_or_by_a_start_unless_that_is_forbidden() {
    let dir = tempfile::tempdir().unwrap();
    let unmigrated = || {
        let mut command = command(dir.path());
        command.arg("--migrate=false");
        command
    };
    let said = fails(unmigrated());
    assert!(said.contains("backstop-server migrate"), "{said}");
    migrated(dir.path(), &[]);
    let node = Node::new(1);
    let process = Process::run(unmigrated());
    let sent = node.first(&process.place).await.append(1).await;
    // Nobody changes what a server has open.
    let mut beside = program();
    beside.args(["migrate", "--data"]).arg(dir.path());
    assert!(fails(beside).contains("another backstop-server"));
    drop(process);
    make_older(dir.path()).await;
    assert!(fails(unmigrated()).contains("backstop-server migrate"));
    migrated(dir.path(), &[]);
    drop(Process::run(unmigrated()));
    make_older(dir.path()).await;
    let process = Process::start(dir.path());
    let mut client = node.open(&process.place, node.read_opening(&process.place)).await;
    assert_eq!(client.log().await, [sent]);
}

#[test]
fn an_empty_postgresql_database_is_made_by_migrate_alone_where_that_is_wanted() {
    let (cluster, dir) = (Cluster::shared(), tempfile::tempdir().unwrap());
    let url = cluster.url(&cluster.database());
    let unmigrated = || {
        let mut command = command_over(dir.path(), &url);
        command.arg("--migrate=false");
        command
    };
    let said = fails(unmigrated());
    assert!(said.contains("backstop-server migrate"), "{said}");
    migrated(dir.path(), &["--database", &url]);
    drop(Process::run(unmigrated()));
}
