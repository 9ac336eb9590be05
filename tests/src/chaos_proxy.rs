//! A bad network between a client and a server: it cuts, holds and delays, repeats pieces and invents answers.

mod trap;

pub use trap::{Moment, Step};

use anyhow::Result;
use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use trap::Traffic;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Requests.
    ToServer,
    /// Answers.
    ToClient,
}

/// What the network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Everything passes.
    Clear,
    /// Open connections are closed, and new ones at once.
    Refuse,
    /// Connections are taken and nothing passes, until the weather changes.
    Hold,
    /// After this many more bytes that way, all connections are closed once; then it is clear again.
    Cut(Direction, u64),
    /// Every piece takes this much longer.
    Delay(Duration),
    /// So many more pieces that way come twice; then it is clear again.
    Twice(Direction, u64),
    /// Instead of so many more pieces of answers this comes; then it is clear again.
    Instead(&'static [u8], u64),
}

struct Sky {
    weather: Weather,
    /// Raised when all open connections are to end.
    generation: u64,
    /// How often a cut has happened.
    cuts: u64,
    /// How many pieces came twice or were replaced.
    faults: u64,
    /// How many connections were refused.
    refusals: u64,
    /// No more connections are taken.
    closed: bool,
    /// Both ends of every connection so far.
    open: Vec<TcpStream>,
    /// How many connections there were.
    connections: u64,
    /// The requests, and the one that is stopped.
    traffic: Traffic,
}

impl Sky {
    fn end_connections(&mut self) {
        self.generation += 1;
        for stream in self.open.drain(..) {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// One connection.
#[derive(Clone, Copy)]
struct Line {
    number: u64,
    /// When it was made; see [`Sky::generation`].
    generation: u64,
}

/// What happens to a piece of bytes.
struct Verdict {
    /// What goes on before it.
    first: Vec<u8>,
    /// How many of them go on.
    pass: usize,
    /// How much later.
    delay: Option<Duration>,
    /// Whether the connection ends behind them.
    end: bool,
}

/// A proxy on a port of its own, for one server.
pub struct ChaosProxy {
    sky: Arc<(Mutex<Sky>, Condvar)>,
    address: SocketAddr,
}

impl ChaosProxy {
    /// Listens, and passes everything to `target` (`ADDRESS:PORT`).
    pub fn start(target: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let sky = Sky {
            weather: Weather::Clear,
            generation: 0,
            cuts: 0,
            faults: 0,
            refusals: 0,
            closed: false,
            open: Vec::new(),
            connections: 0,
            traffic: Traffic::default(),
        };
        let sky = Arc::new((Mutex::new(sky), Condvar::new()));
        let (shared, target) = (Arc::clone(&sky), target.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if look(&shared).closed {
                    return;
                }
                connect(client, &target, &shared);
            }
        });
        Ok(Self { sky, address })
    }

    /// `http://ADDRESS:PORT` of the proxy.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes the weather.
    pub fn set(&self, weather: Weather) {
        let mut sky = look(&self.sky);
        sky.weather = weather;
        if weather == Weather::Refuse {
            sky.end_connections();
        }
        self.sky.1.notify_all();
    }

    /// How many connections were made since the start, and how many refused.
    pub fn counts(&self) -> (u64, u64) {
        let sky = look(&self.sky);
        (sky.connections, sky.refusals)
    }

    /// Waits until so many connections were refused since the start.
    pub fn wait_for_refusals(&self, count: u64) {
        let mut sky = look(&self.sky);
        while sky.refusals < count {
            sky = self.sky.1.wait(sky).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Stops the next request that comes to this step, and what else comes over its connection; everything else passes.
    pub fn stop_at(&self, step: Step) {
        look(&self.sky).traffic.stop_at(step);
    }

    /// Whether a request is stopped there now.
    pub fn has_stopped(&self) -> bool {
        look(&self.sky).traffic.has_stopped()
    }

    /// Waits until one is, as long as `limit`. Answers whether one is.
    pub fn wait_for_stop(&self, limit: Duration) -> bool {
        let sky = look(&self.sky);
        let waited = self
            .sky
            .1
            .wait_timeout_while(sky, limit, |sky| !sky.traffic.has_stopped());
        waited
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .traffic
            .has_stopped()
    }

    /// Lets go what was stopped, and stops nothing more.
    pub fn release(&self) {
        look(&self.sky).traffic.release();
        self.sky.1.notify_all();
    }

    /// How many requests so far began like this, such as `PUT /v1/packs/`.
    pub fn requests(&self, beginning: &str) -> usize {
        look(&self.sky).traffic.count(beginning)
    }

    /// How many pieces came twice or were replaced.
    pub fn faults(&self) -> u64 {
        look(&self.sky).faults
    }

    /// How often connections were cut after a count of bytes.
    pub fn cuts(&self) -> u64 {
        look(&self.sky).cuts
    }
}

impl Drop for ChaosProxy {
    fn drop(&mut self) {
        let mut sky = look(&self.sky);
        sky.closed = true;
        sky.end_connections();
        self.sky.1.notify_all();
        drop(sky);
        // Wakes the listener, which then sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

fn look(sky: &(Mutex<Sky>, Condvar)) -> MutexGuard<'_, Sky> {
    sky.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Joins a client to the server, one thread each way.
fn connect(client: TcpStream, target: &str, sky: &Arc<(Mutex<Sky>, Condvar)>) {
    {
        let mut state = look(sky);
        if state.weather == Weather::Refuse {
            state.refusals += 1;
            sky.1.notify_all();
            return;
        }
    }
    let Ok(server) = TcpStream::connect(target) else {
        return;
    };
    let clones = [&client, &client, &server, &server].map(TcpStream::try_clone);
    let [
        Ok(client_again),
        Ok(client_kept),
        Ok(server_again),
        Ok(server_kept),
    ] = clones
    else {
        return;
    };
    let line = {
        let mut sky = look(sky);
        sky.open.extend([client_kept, server_kept]);
        sky.connections += 1;
        Line {
            number: sky.connections,
            generation: sky.generation,
        }
    };
    for (from, to, way) in [
        (client, server, Direction::ToServer),
        (server_again, client_again, Direction::ToClient),
    ] {
        let sky = Arc::clone(sky);
        std::thread::spawn(move || pump(from, to, way, &sky, line));
    }
}

/// Passes bytes one way until either side ends or the weather ends it.
fn pump(mut from: TcpStream, mut to: TcpStream, way: Direction, sky: &(Mutex<Sky>, Condvar), line: Line) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        let piece = buffer.get(..len).unwrap_or_default();
        let verdict = judge(sky, way, piece, line);
        if let Some(delay) = verdict.delay {
            std::thread::sleep(delay);
        }
        let wrote = to
            .write_all(&verdict.first)
            .and_then(|()| to.write_all(piece.get(..verdict.pass).unwrap_or_default()));
        if verdict.end || wrote.is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

fn judge(sky: &(Mutex<Sky>, Condvar), way: Direction, piece: &[u8], line: Line) -> Verdict {
    let len = piece.len();
    let mut guard = look(sky);
    if guard.traffic.see(line.number, way, piece) {
        sky.1.notify_all();
    }
    while (guard.weather == Weather::Hold || guard.traffic.holds(line.number, way))
        && guard.generation == line.generation
    {
        guard = sky.1.wait(guard).unwrap_or_else(PoisonError::into_inner);
    }
    if guard.generation != line.generation {
        return Verdict {
            first: Vec::new(),
            pass: 0,
            delay: None,
            end: true,
        };
    }
    let all = Verdict {
        first: Vec::new(),
        pass: len,
        delay: None,
        end: false,
    };
    match guard.weather {
        Weather::Delay(delay) => Verdict {
            delay: Some(delay),
            ..all
        },
        Weather::Cut(cut, left) if cut == way && left > len as u64 => {
            guard.weather = Weather::Cut(cut, left - len as u64);
            all
        }
        Weather::Cut(cut, left) if cut == way => {
            guard.weather = Weather::Clear;
            guard.generation += 1;
            guard.cuts += 1;
            // This connection ends by itself, behind its last bytes.
            Verdict {
                pass: usize::try_from(left).unwrap_or(len),
                end: true,
                ..all
            }
        }
        Weather::Twice(twice, left) if twice == way => {
            guard.weather = spent(left, |left| Weather::Twice(twice, left));
            guard.faults += 1;
            Verdict {
                first: piece.to_vec(),
                ..all
            }
        }
        Weather::Instead(answer, left) if way == Direction::ToClient => {
            guard.weather = spent(left, |left| Weather::Instead(answer, left));
            guard.faults += 1;
            Verdict {
                first: answer.to_vec(),
                pass: 0,
                ..all
            }
        }
        _ => all,
    }
}

/// The weather after one more of its pieces.
fn spent(left: u64, rest: impl FnOnce(u64) -> Weather) -> Weather {
    match left {
        0 | 1 => Weather::Clear,
        _ => rest(left - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it gets.
    fn echo() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || std::io::copy(&mut stream.try_clone().unwrap(), &mut &stream));
            }
        });
        address
    }

    fn call(proxy: &ChaosProxy, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(proxy.address).unwrap();
        let mut got = Vec::new();
        if stream
            .write_all(bytes)
            .and_then(|()| stream.shutdown(Shutdown::Write))
            .is_ok()
        {
            // What came before a reset counts.
            let _ = stream.read_to_end(&mut got);
        }
        got
    }

    #[test]
    fn in_clear_weather_everything_passes() {
        let proxy = ChaosProxy::start(&echo()).unwrap();
        let bytes = vec![7; 100_000];
        let mut stream = TcpStream::connect(proxy.address).unwrap();
        stream.write_all(&bytes[..1000]).unwrap();
        let mut back = vec![0; 1000];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, bytes[..1000]);
    }

    #[test]
    fn a_connection_is_cut_once_and_at_the_very_byte() {
        let proxy = ChaosProxy::start(&echo()).unwrap();
        proxy.set(Weather::Cut(Direction::ToClient, 5));
        let mut stream = TcpStream::connect(proxy.address).unwrap();
        stream.write_all(b"0123456789").unwrap();
        let mut got = Vec::new();
        let _ = stream.read_to_end(&mut got);
        assert_eq!(got, b"01234");
        assert_eq!(proxy.cuts(), 1);
        let mut stream = TcpStream::connect(proxy.address).unwrap();
        stream.write_all(b"0123456789").unwrap();
        let mut back = [0; 10];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"0123456789");
    }

    #[test]
    fn a_request_is_stopped_at_its_step_and_others_pass() {
        let proxy = ChaosProxy::start(&echo()).unwrap();
        let request = *b"PUT /v1/packs/00 HTTP/1.1\r\n\r\n";
        let mut back = [0; 29];
        for moment in [Moment::Asked, Moment::Answered] {
            proxy.stop_at(Step {
                request: "PUT /v1/packs/",
                moment,
            });
            let [mut other, mut stream] = [(); 2].map(|()| TcpStream::connect(proxy.address).unwrap());
            other.write_all(&[7; 29]).unwrap();
            other.read_exact(&mut back).unwrap();
            assert!(!proxy.has_stopped());
            stream.write_all(&request).unwrap();
            assert!(proxy.wait_for_stop(Duration::from_secs(10)));
            proxy.release();
            stream.read_exact(&mut back).unwrap();
            assert_eq!(back, request);
        }
        assert_eq!(proxy.requests("PUT /v1/packs/"), 2);
    }

    #[test]
    fn a_piece_comes_twice_or_another_one_in_its_place_as_often_as_was_asked() {
        let proxy = ChaosProxy::start(&echo()).unwrap();
        let mut stream = TcpStream::connect(proxy.address).unwrap();
        let mut say = |expected: &[u8]| {
            stream.write_all(b"hello").unwrap();
            let mut back = vec![0; expected.len()];
            stream.read_exact(&mut back).unwrap();
            assert_eq!(back, expected);
        };
        proxy.set(Weather::Twice(Direction::ToServer, 1));
        say(b"hellohello");
        say(b"hello");
        proxy.set(Weather::Instead(b"no", 2));
        say(b"no");
        say(b"no");
        say(b"hello");
        assert_eq!(proxy.faults(), 3);
    }

    #[test]
    fn refused_means_nothing_comes_back() {
        let proxy = ChaosProxy::start(&echo()).unwrap();
        proxy.set(Weather::Refuse);
        assert_eq!(call(&proxy, b"hello"), b"");
    }
}
