//! HTTP/1.1 by hand.

use super::*;

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    /// What it asks a browser to keep.
    pub(crate) cookies: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json<T: DeserializeOwned>(&self) -> T {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.headers["content-type"], "application/json");
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn octets(&self) -> &[u8] {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.headers["content-type"], api::OCTETS);
        &self.body
    }

    /// The refusal, which must be a problem document that agrees with itself.
    pub(crate) fn problem(&self) -> Problem {
        assert_eq!(
            self.headers["content-type"],
            PROBLEM_JSON,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        let problem: Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(
            (problem.status, problem.code.status()),
            (self.status, self.status)
        );
        assert_eq!(problem.kind, format!("urn:backstop:problem:{}", problem.code));
        assert_eq!(problem.title, problem.code.title());
        problem
    }

    pub(crate) fn refused(&self, code: ProblemCode) -> Problem {
        let problem = self.problem();
        assert_eq!(problem.code, code, "{problem}");
        problem
    }

    pub(crate) fn mac(&self) -> Option<[u8; 32]> {
        let mut mac = [0; 32];
        hex::decode_to_slice(self.headers.get(MAC_HEADER)?, &mut mac).unwrap();
        Some(mac)
    }
}

/// A connection that is kept alive.
pub(crate) struct Connection(BufReader<Box<dyn Stream>>);

/// TCP, or TLS over it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Connection {
    pub(crate) async fn open(addr: SocketAddr) -> Self {
        Self::over(TcpStream::connect(addr).await.unwrap())
    }

    pub(crate) fn over(stream: impl Stream + 'static) -> Self {
        Self(BufReader::new(Box::new(stream)))
    }

    /// Sends whatever bytes.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    pub(crate) async fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        let whole = [head.as_bytes(), b"\r\n", body].concat();
        // A refusal may come before the body is taken.
        let _ = self.0.write_all(&whole).await;
        self.answer().await.expect("an answer")
    }

    /// The next line, whatever it is.
    pub(crate) async fn line(&mut self) -> String {
        let mut line = Vec::new();
        // A connection that breaks has said what it says.
        let _ = self.0.read_until(b'\n', &mut line).await;
        String::from_utf8_lossy(&line).into_owned()
    }

    /// The next answer; `None` where the server hung up instead.
    pub(crate) async fn answer(&mut self) -> Option<Answer> {
        let mut line = String::new();
        if self.0.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let (mut headers, mut cookies) = (HashMap::new(), Vec::new());
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).await.unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            if name.eq_ignore_ascii_case("set-cookie") {
                cookies.push(value.to_owned());
            }
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let len = headers
            .get("content-length")
            .map_or(0, |len| len.parse().unwrap());
        let mut body = vec![0; len];
        self.0.read_exact(&mut body).await.unwrap();
        Some(Answer {
            status,
            headers,
            cookies,
            body,
        })
    }
}
