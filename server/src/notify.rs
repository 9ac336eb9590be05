//! What systemd is told (`sd_notify(3)`): a few words over a datagram socket. Where nobody listens, nothing is said.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::{OsStrExt as _, OsStringExt as _},
            net::{SocketAddr, UnixDatagram},
        },
    },
    sync::Arc,
    time::Duration,
};

/// What the server can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// Requests are answered.
    Ready,
    /// The configuration is being read again; [`Word::Ready`] follows.
    Reloading,
    /// The end has begun.
    Stopping,
    /// Not stuck.
    Alive,
}

impl Word {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "READY=1",
            Self::Reloading => "RELOADING=1",
            Self::Stopping => "STOPPING=1",
            Self::Alive => "WATCHDOG=1",
        }
    }
}

/// The way to whoever started this process and wants to know.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notify {
    socket: Option<Arc<(UnixDatagram, SocketAddr)>>,
    /// How often it wants to hear that the server lives.
    watchdog: Option<Duration>,
}

impl Notify {
    /// As the environment says: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    pub(crate) fn from_environment() -> Self {
        let text = |name| std::env::var(name).ok();
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|name| {
            match connect(&name.into_vec()) {
                Ok(socket) => Some(Arc::new(socket)),
                Err(error) => {
                    tracing::warn!(%error, "NOTIFY_SOCKET cannot be used; systemd will not hear that the server runs");
                    None
                }
            }
        });
        let ours = text("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        Self {
            socket,
            watchdog: text("WATCHDOG_USEC")
                .filter(|_| ours)
                .as_deref()
                .and_then(interval),
        }
    }

    /// Says it.
    pub(crate) fn say(&self, word: Word) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.0.send_to_addr(word.as_str().as_bytes(), &socket.1) {
            tracing::warn!(%error, word = word.as_str(), "systemd was not told");
        }
    }

    /// Says for ever, twice within each of the watchdog's intervals, that the runtime is not stuck. Whether the store
    /// answers is for `/ready` to say: a restart would not heal it.
    pub(crate) async fn keep_saying(self) {
        let Some(interval) = self.watchdog else { return };
        loop {
            self.say(Word::Alive);
            tokio::time::sleep(interval / 2).await;
        }
    }
}

fn connect(name: &[u8]) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
    };
    let socket = UnixDatagram::unbound()?;
    // A full queue must not hold up the server.
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

/// An interval in microseconds, as text; nought is none.
fn interval(text: &str) -> Option<Duration> {
    let micros = text.parse().ok().filter(|micros| *micros > 0)?;
    Some(Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(name: &[u8], listener: &UnixDatagram) {
        let notify = Notify {
            socket: Some(Arc::new(connect(name).unwrap())),
            watchdog: None,
        };
        for (word, text) in [
            (Word::Ready, "READY=1"),
            (Word::Reloading, "RELOADING=1"),
            (Word::Alive, "WATCHDOG=1"),
            (Word::Stopping, "STOPPING=1"),
        ] {
            notify.say(word);
            let mut buffer = [0; 64];
            let len = listener.recv(&mut buffer).unwrap();
            assert_eq!(buffer.get(..len).unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn words_arrive_at_a_path_and_at_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        heard(path.as_os_str().as_bytes(), &UnixDatagram::bind(&path).unwrap());
        let name = format!("backstop-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        heard(
            format!("@{name}").as_bytes(),
            &UnixDatagram::bind_addr(&address).unwrap(),
        );
    }

    #[test]
    fn an_interval_is_a_number_of_microseconds_above_nought() {
        assert_eq!(interval("20000000"), Some(Duration::from_secs(20)));
        for text in ["", "0", "-1", "20s"] {
            assert_eq!(interval(text), None, "{text}");
        }
    }

    #[test]
    fn without_a_listener_nothing_is_said_and_nothing_fails() {
        Notify::default().say(Word::Ready);
        let dir = tempfile::tempdir().unwrap();
        let gone = connect(dir.path().join("gone").as_os_str().as_bytes()).unwrap();
        let notify = Notify {
            socket: Some(Arc::new(gone)),
            watchdog: None,
        };
        notify.say(Word::Ready);
    }
}
