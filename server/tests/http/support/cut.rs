//! A hop before a service that fails as networks and overloaded services do.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What happens to connections, from the next one on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    None,
    /// Every request is answered so, with a code of S3's.
    Answer(&'static str, &'static str),
    /// Nothing is ever answered.
    Silence,
    /// The connection is cut once this many bytes came from the client.
    CutUpload(usize),
    /// The connection is cut once this many bytes came from the service.
    CutDownload(usize),
}

/// The hop.
pub(crate) struct Hop {
    pub(crate) endpoint: String,
    fault: Arc<Mutex<Fault>>,
    /// Faults that came about.
    struck: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Hop {
    /// Before the service at an endpoint.
    pub(crate) async fn before(endpoint: &str) -> Self {
        let service: SocketAddr = endpoint.strip_prefix("http://").unwrap().parse().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let fault = Arc::new(Mutex::new(Fault::None));
        let struck = Arc::new(AtomicUsize::new(0));
        let (faults, count) = (fault.clone(), struck.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, service, faults.clone(), count.clone()));
            }
        });
        Self {
            endpoint,
            fault,
            struck,
            accepting,
        }
    }

    pub(crate) fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    pub(crate) fn struck(&self) -> usize {
        self.struck.load(Ordering::SeqCst)
    }
}

impl Drop for Hop {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One connection. A fault is looked for with whatever arrives: connections are kept, and used again.
async fn carry(
    mut client: TcpStream,
    service: SocketAddr,
    fault: Arc<Mutex<Fault>>,
    struck: Arc<AtomicUsize>,
) {
    let Ok(mut service) = TcpStream::connect(service).await else {
        return;
    };
    let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let (mut sent, mut received) = (0, 0);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(read @ 1..) = read else { return };
                sent += read;
                let now = *fault.lock().unwrap();
                match now {
                    Fault::Answer(status, code) => {
                        struck.fetch_add(1, Ordering::SeqCst);
                        let body = format!("<Error><Code>{code}</Code><Message>of the test</Message></Error>");
                        let answer = format!(
                            "HTTP/1.1 {status}\r\ncontent-type: application/xml\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                            body.len()
                        );
                        let _ = client.write_all(answer.as_bytes()).await;
                        // What is still coming is taken, so that the answer is not lost with a reset.
                        while matches!(client.read(&mut up).await, Ok(1..)) {}
                        return;
                    }
                    Fault::Silence => {
                        struck.fetch_add(1, Ordering::SeqCst);
                        while matches!(client.read(&mut up).await, Ok(1..)) {}
                        return;
                    }
                    Fault::CutUpload(most) if sent > most => {
                        struck.fetch_add(1, Ordering::SeqCst);
                        return;
                    }
                    _ => {}
                }
                if service.write_all(&up[..read]).await.is_err() {
                    return;
                }
            }
            read = service.read(&mut down) => {
                let Ok(read @ 1..) = read else { return };
                received += read;
                let now = *fault.lock().unwrap();
                if let Fault::CutDownload(most) = now && received > most {
                    struck.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                if client.write_all(&down[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}
