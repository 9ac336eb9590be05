//! TLS, and certificates that change while the server runs.

use crate::support::{Connection, Node, TestServer};
use backstop_protocol::api;
use backstop_server::{Certificates, TlsError, TlsFiles};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
};
use std::{
    fs::{self, Permissions},
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

const NAME: &str = "backup.example";

/// Writes a new certificate and its key.
pub(crate) fn write(files: &TlsFiles) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([NAME.to_owned()]).unwrap();
    fs::write(&files.cert, cert.pem()).unwrap();
    write_key(&files.key, &signing_key);
    cert.der().clone()
}

fn write_key(file: &Path, key: &KeyPair) {
    let _ = fs::remove_file(file);
    fs::write(file, key.serialize_pem()).unwrap();
    fs::set_permissions(file, Permissions::from_mode(0o400)).unwrap();
}

pub(crate) fn files(dir: &Path) -> TlsFiles {
    TlsFiles {
        cert: dir.join("cert.pem"),
        key: dir.join("key.pem"),
    }
}

/// Connects as one who trusts this certificate alone and speaks these protocols.
pub(crate) async fn connect(
    addr: SocketAddr,
    trusted: &CertificateDer<'static>,
    protocols: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let stream = TcpStream::connect(addr).await?;
    let name = ServerName::try_from(NAME).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[tokio::test]
async fn a_node_appends_over_tls_as_over_plain_http() {
    let dir = tempfile::tempdir().unwrap();
    let trusted = write(&files(dir.path()));
    let server = TestServer::start_with(|config| {
        config.tls = Some(files(dir.path()));
        // With TLS every address is one to listen on.
        config.listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    })
    .await;
    let stream = connect(server.addr, &trusted, &[]).await.unwrap();
    let node = Node::new(1);
    let opening = node.signed(node.opening(&server, node.claim(0, 1)));
    let opening = serde_json::to_vec(&opening).unwrap();
    let mut connection = Connection::over(stream);
    let opened = connection.request("POST", api::SESSIONS, &[], &opening).await;
    let mut client = node.client(&server, &opened.json(), connection);
    let sent = [client.append(1).await, client.append(2).await];
    assert_eq!(client.log().await, sent);
}

#[tokio::test]
async fn plain_http_is_not_answered_where_tls_is_spoken() {
    let dir = tempfile::tempdir().unwrap();
    write(&files(dir.path()));
    let server = TestServer::start_with(|config| config.tls = Some(files(dir.path()))).await;
    let mut connection = server.connect().await;
    connection
        .send(b"GET /v1/health HTTP/1.1\r\nhost: t\r\n\r\n")
        .await;
    let line = connection.line().await;
    assert!(!line.starts_with("HTTP"), "{line}");
}

#[tokio::test]
async fn client_and_server_agree_on_the_protocol_in_the_handshake() {
    let dir = tempfile::tempdir().unwrap();
    let trusted = write(&files(dir.path()));
    let server = TestServer::start_with(|config| config.tls = Some(files(dir.path()))).await;
    for (offered, agreed) in [
        (
            &[b"h2".as_slice(), b"http/1.1"] as &[&[u8]],
            Some(b"h2".as_slice()),
        ),
        (&[b"http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let stream = connect(server.addr, &trusted, offered).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), agreed);
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_and_a_bad_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    let first = write(&files);
    let server = TestServer::start_with(|config| config.tls = Some(files.clone())).await;
    let certificates = server.certificates.clone().unwrap();
    let mut open = Connection::over(connect(server.addr, &first, &[]).await.unwrap());
    assert!(!certificates.reload_if_changed().unwrap());

    let second = write(&files);
    assert!(certificates.reload_if_changed().unwrap());
    assert!(!certificates.reload_if_changed().unwrap());
    assert!(connect(server.addr, &second, &[]).await.is_ok());
    assert!(connect(server.addr, &first, &[]).await.is_err());
    // What is open stays as it is.
    assert_eq!(open.request("GET", api::HEALTH, &[], b"").await.status, 200);

    write_key(&files.key, &KeyPair::generate().unwrap());
    assert!(matches!(
        certificates.reload_if_changed(),
        Err(TlsError::Unusable { .. })
    ));
    fs::remove_file(&files.cert).unwrap();
    assert!(matches!(
        certificates.reload_if_changed(),
        Err(TlsError::Unreadable { .. })
    ));
    // Said once, until something changes.
    assert!(!certificates.reload_if_changed().unwrap());
    assert!(certificates.reload().is_err());
    assert!(connect(server.addr, &second, &[]).await.is_ok());
}

#[test]
fn a_certificate_that_cannot_be_used_is_told_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    let refused = |advice: &str| {
        let error = Certificates::load(files.clone()).unwrap_err().to_string();
        assert!(error.contains(advice), "{error}");
        error
    };
    refused("--tls-cert FILE");
    write(&files);
    assert!(Certificates::load(files.clone()).is_ok());

    let secret = fs::read_to_string(&files.key).unwrap();
    for mode in [0o440, 0o404, 0o420] {
        fs::set_permissions(&files.key, Permissions::from_mode(mode)).unwrap();
        let said = refused(&format!("chmod 0400 {}", files.key.display()));
        assert!(!said.contains(&secret));
    }
    fs::remove_file(&files.key).unwrap();
    refused("--tls-key FILE");
    for damaged in ["", "no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n"] {
        let _ = fs::remove_file(&files.key);
        fs::write(&files.key, damaged).unwrap();
        fs::set_permissions(&files.key, Permissions::from_mode(0o400)).unwrap();
        refused("does not hold an unencrypted private key");
    }
    write(&files);
    for damaged in ["", "no certificate", secret.as_str()] {
        fs::write(&files.cert, damaged).unwrap();
        refused("does not hold certificates");
    }
    write(&files);
    write_key(&files.key, &KeyPair::generate().unwrap());
    refused("a certificate and its own key");
}
