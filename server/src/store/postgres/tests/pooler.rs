//! The conformance suite once more, behind a pooler that hands each transaction any session it has.

use super::{
    Store as _,
    cluster::{Cluster, unprivileged},
    conformance, open,
};
use std::{
    fs,
    path::PathBuf,
    process::{Child, Stdio},
    sync::Arc,
    time::Duration,
};

const PGBOUNCER: &str = "/usr/sbin/pgbouncer";

/// Fewer sessions than a store opens connections: they must be shared.
const SETTINGS: &str = "pool_mode = transaction
default_pool_size = 3
auth_type = trust
listen_port = 6432
";

/// `PgBouncer` in front of the shared cluster, killed with the test.
struct Pooler {
    process: Child,
    dir: PathBuf,
}

impl Pooler {
    async fn start() -> Self {
        assert!(
            fs::exists(PGBOUNCER).unwrap(),
            "{PGBOUNCER} is missing: run `apt-get install pgbouncer`, or `cargo test-all`, which does"
        );
        let dir = Cluster::shared().dir.clone();
        let (users, file) = (dir.join("users"), dir.join("pgbouncer.ini"));
        fs::write(&users, "\"postgres\" \"\"\n").unwrap();
        let socket = dir.display();
        let text = format!(
            "[databases]\n* = host={socket}\n[pgbouncer]\n{SETTINGS}auth_file = {}\nunix_socket_dir = {socket}\n",
            users.display()
        );
        fs::write(&file, text).unwrap();
        let process = unprivileged(PGBOUNCER)
            .arg("-q")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while !fs::exists(dir.join(".s.PGSQL.6432")).unwrap() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Self { process, dir }
    }

    fn url(&self, database: &str) -> String {
        let dir = self.dir.display();
        format!("postgres://postgres@localhost:6432/{database}?host={dir}")
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // It stands behind `runuser`, which passes this on.
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.process.id()).unwrap());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.process.wait();
    }
}

macro_rules! behind_a_pooler {
    ($($rule:ident,)*) => {
        #[tokio::test]
        async fn every_rule_holds_behind_a_pooler_of_transactions() {
            let pooler = Pooler::start().await;
            $({
                let url = pooler.url(&Cluster::shared().database());
                let store = Arc::new(open(&url).await.unwrap());
                Box::pin(conformance::$rule(store.clone())).await;
                store.close().await;
            })*
        }
    };
}

conformance::for_every_rule!(behind_a_pooler);
