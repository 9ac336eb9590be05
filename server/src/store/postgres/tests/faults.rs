//! What goes wrong around a PostgreSQL store: connections that are cut, a slow disk, a clock that is wrong, TLS.

use super::*;
use backstop_protocol::clock::UnixMillis;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
};

#[tokio::test]
async fn a_store_whose_connections_are_all_cut_goes_on_over_fresh_ones_and_loses_nothing() {
    let cluster = Cluster::shared();
    let database = cluster.database();
    let store = open(&cluster.url(&database)).await.unwrap();
    let mut session = Session::first(&store, 1).await;
    let mut sent = Vec::new();
    for fill in 0..20 {
        let end =
            format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'");
        cluster.sql("postgres", &end);
        let next = session.next(fill);
        let appended = loop {
            match store.append(next.clone()).await {
                Ok(appended) => break appended,
                Err(StoreError::Unavailable(_)) => {}
                Err(other) => panic!("{other:?}"),
            }
        };
        session.head = appended.head;
        sent.push(next.sealed.to_vec());
    }
    assert_eq!(log(&store, &session).await, sent);
}

#[tokio::test]
async fn a_slow_database_acknowledges_late_and_others_read_meanwhile() {
    let (store, url) = new().await;
    let mut session = Session::first(&*store, 1).await;
    session.append(&*store, 1).await;
    let statements = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM pg_advisory_xact_lock(77); RETURN new;
         END $$;
         CREATE TRIGGER slow BEFORE INSERT ON records FOR EACH ROW EXECUTE FUNCTION slow()";
    raw_sql(statements).execute(&mut other(&url).await).await.unwrap();
    let mut brake = other(&url).await;
    raw_sql("SELECT pg_advisory_lock(77)")
        .execute(&mut brake)
        .await
        .unwrap();
    let (slow, next) = (store.clone(), session.next(2));
    let late = tokio::spawn(async move { slow.append(next).await });
    // However long it takes, nothing is said before it is committed, and whoever reads does not wait.
    for _ in 0..20 {
        assert_eq!(log(&store, &session).await.len(), 1);
        assert!(!late.is_finished());
    }
    raw_sql("SELECT pg_advisory_unlock(77)")
        .execute(&mut brake)
        .await
        .unwrap();
    late.await.unwrap().unwrap();
    assert_eq!(log(&store, &session).await.len(), 2);
}

#[tokio::test]
async fn one_process_whose_clock_is_wrong_breaks_no_chain_and_lets_nobody_in_twice() {
    let (store, url) = new().await;
    let wrong = open(&url).await.unwrap();
    let mut session = Session::first(&*store, 1).await;
    let mut sent = Vec::new();
    for fill in 0..12_u8 {
        // Years ahead, then at the beginning of time, then right again.
        let (process, now): (&PostgresStore, u64) = match fill % 3 {
            0 => (&wrong, 90 * 365 * 86_400_000),
            1 => (&wrong, 0),
            _ => (&store, 1_000_000),
        };
        let mut next = session.next(fill);
        next.now = UnixMillis(now);
        session.head = process.append(next.clone()).await.unwrap().head;
        sent.push(next.sealed.to_vec());
    }
    assert_eq!(log(&store, &session).await, sent);
    // What decides who writes is no clock.
    let next = conformance::claim(1, 9, 1, 2);
    let mut newer = Session::open(&wrong, 1, next).await;
    assert!(matches!(
        store.append(session.next(99)).await,
        Err(StoreError::Refused(Refusal::Fenced { .. }))
    ));
    newer.append(&*store, 100).await;
}

/// Writes a file that the database's user alone reads.
fn write_for_the_database(file: &Path, text: &str) {
    let mut child = cluster::unprivileged("sh")
        .args(["-c", "umask 077; cat > \"$0\""])
        .arg(file)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// An address of this machine that no other test program has: loopback is a whole network.
fn address() -> String {
    let [.., a, b] = std::process::id().to_be_bytes();
    format!("127.77.{a}.{}", b.max(1))
}

#[tokio::test]
async fn over_tls_the_database_is_the_one_that_the_authority_vouches_for_or_none() {
    let cluster = Cluster::start();
    let (address, authority) = (address(), authority());
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![address.clone()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let place = |name: &str| -> PathBuf { cluster.dir.join(name) };
    write_for_the_database(&place("cert.pem"), &certificate.pem());
    write_for_the_database(&place("key.pem"), &key.serialize_pem());
    write_for_the_database(
        &place("data/pg_hba.conf"),
        "local all all trust\nhostssl all all 127.0.0.0/8 trust\n",
    );
    cluster.set(&format!(
        "listen_addresses = '{address}'\nssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'",
        place("cert.pem").display(),
        place("key.pem").display()
    ));
    cluster.control(&["restart"]);
    let own = tempfile::tempdir().unwrap();
    let url = |mode: &str, name: &str, authority: &CertifiedIssuer<'static, KeyPair>| {
        let file = own.path().join(name);
        std::fs::write(&file, authority.pem()).unwrap();
        let database = cluster.database();
        format!(
            "postgres://postgres@{address}/{database}?sslmode={mode}&sslrootcert={}",
            file.display()
        )
    };
    let store = open(&url("verify-full", "ca.pem", &authority)).await.unwrap();
    let mut session = Session::first(&store, 1).await;
    session.append(&store, 1).await;
    let secured: bool = scalar("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        .fetch_one(&store.database.pool)
        .await
        .unwrap();
    assert!(secured);
    let stranger = self::authority();
    assert!(open(&url("verify-full", "other.pem", &stranger)).await.is_err());
    // Without TLS nobody gets in at all.
    assert!(open(&url("disable", "ca.pem", &authority)).await.is_err());
}
