//! A SOCKS5 proxy as Tor is one for its clients: it is given names and looks them up itself. Here one name leads to one
//! server, and everything else nowhere.

use anyhow::{Result, ensure};
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// A proxy for one name; it serves as long as the process lives.
pub struct SocksProxy {
    url: String,
    connections: Arc<AtomicU64>,
}

impl SocksProxy {
    /// Leads `name` to `address`.
    pub fn start(name: &str, address: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("socks5h://{}", listener.local_addr()?);
        let connections = Arc::new(AtomicU64::new(0));
        let (counted, name, address) = (connections.clone(), name.to_owned(), address.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (counted, name, address) = (counted.clone(), name.clone(), address.clone());
                std::thread::spawn(move || {
                    // Whoever is turned away notices.
                    let _ = serve(client, &name, &address, &counted);
                });
            }
        });
        Ok(Self { url, connections })
    }

    /// `socks5h://ADDRESS:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How many connections it made so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }
}

/// RFC 1928, without authentication, `CONNECT` to a name alone.
fn serve(mut client: TcpStream, name: &str, address: &str, counted: &AtomicU64) -> Result<()> {
    let mut head = [0; 2];
    client.read_exact(&mut head)?;
    let mut methods = vec![0; usize::from(head[1])];
    client.read_exact(&mut methods)?;
    ensure!(
        head[0] == 5 && methods.contains(&0),
        "no SOCKS5 without authentication"
    );
    client.write_all(&[5, 0])?;
    let mut request = [0; 5];
    client.read_exact(&mut request)?;
    let [version, command, _, kind, len] = request;
    ensure!((version, command) == (5, 1), "no CONNECT");
    if kind != 3 {
        // An address: somebody looked the name up by himself.
        client.write_all(&[5, 8, 0, 1, 0, 0, 0, 0, 0, 0])?;
        return Ok(());
    }
    let mut asked = vec![0; usize::from(len) + 2];
    client.read_exact(&mut asked)?;
    if asked.get(..usize::from(len)) != Some(name.as_bytes()) {
        client.write_all(&[5, 4, 0, 1, 0, 0, 0, 0, 0, 0])?;
        return Ok(());
    }
    let server = TcpStream::connect(address)?;
    counted.fetch_add(1, Ordering::SeqCst);
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    let (up, down) = ((client.try_clone()?, server.try_clone()?), (server, client));
    let other = std::thread::spawn(move || pass(up));
    pass(down);
    // It ends when its own side does.
    let _ = other.join();
    Ok(())
}

fn pass((mut from, mut to): (TcpStream, TcpStream)) {
    // An end of either side is the end.
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
