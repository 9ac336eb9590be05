//! The pipe from lightningd.
//!
//! It is read while a batch waits for a server too, so that its end is noticed then. A pipe is read by the loop that handles what
//! comes: a thread between them would cost every batch a change of the thread. What cannot be waited for beside other things, as
//! a file, has a thread.

use super::frame::Framer;
use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd as _, OwnedFd},
    thread,
};
use tokio::{net::unix::pipe, sync::mpsc};

/// Most bytes of one read.
const READ_MAX: usize = 64 << 10;

/// What was found on it.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A whole JSON object.
    Frame(Vec<u8>),
    /// lightningd closed the pipe: it has ended, or wants us to.
    End,
    /// The stream cannot be read any further.
    Broken(String),
}

/// Standard input, frame by frame. Memory holds what was sent and not taken yet: lightningd has one batch out at a time.
pub(crate) struct Input {
    source: Source,
    framer: Framer,
    buffer: Vec<u8>,
}

enum Source {
    Pipe(pipe::Receiver),
    /// What a thread read; an error once, nothing once it has ended.
    Thread(mpsc::UnboundedReceiver<io::Result<Vec<u8>>>),
    Ended,
}

impl Input {
    /// Standard input of this process.
    pub(crate) fn of_process() -> io::Result<Self> {
        Self::of(io::stdin().as_fd().try_clone_to_owned()?)
    }

    fn of(fd: OwnedFd) -> io::Result<Self> {
        let source = match pipe::Receiver::from_owned_fd(fd.try_clone()?) {
            Ok(pipe) => Source::Pipe(pipe),
            Err(_) => Source::Thread(read_on_a_thread(File::from(fd))?),
        };
        Ok(Self {
            source,
            framer: Framer::default(),
            buffer: vec![0; READ_MAX],
        })
    }

    /// The next of it; once it has ended or broke, its end, again and again. Dropped before it is done, it loses nothing.
    pub(crate) async fn recv(&mut self) -> Incoming {
        while !matches!(self.source, Source::Ended) {
            match self.framer.next() {
                Ok(Some(frame)) => return Incoming::Frame(frame),
                Ok(None) => {}
                Err(error) => return self.broken(error.to_string()),
            }
            match self.read().await {
                Ok(true) => {}
                Ok(false) => self.source = Source::Ended,
                Err(error) => return self.broken(error.to_string()),
            }
        }
        Incoming::End
    }

    fn broken(&mut self, reason: String) -> Incoming {
        self.source = Source::Ended;
        Incoming::Broken(reason)
    }

    /// Reads once; false at the end.
    async fn read(&mut self) -> io::Result<bool> {
        match &mut self.source {
            Source::Ended => Ok(false),
            Source::Thread(pieces) => match pieces.recv().await.transpose()? {
                Some(piece) => {
                    self.framer.push(&piece);
                    Ok(true)
                }
                None => Ok(false),
            },
            Source::Pipe(pipe) => loop {
                pipe.readable().await?;
                match pipe.try_read(&mut self.buffer) {
                    Ok(0) => return Ok(false),
                    Ok(len) => {
                        self.framer.push(self.buffer.get(..len).unwrap_or_default());
                        return Ok(true);
                    }
                    Err(error)
                        if matches!(
                            error.kind(),
                            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                        ) => {}
                    Err(error) => return Err(error),
                }
            },
        }
    }
}

fn read_on_a_thread(mut input: File) -> io::Result<mpsc::UnboundedReceiver<io::Result<Vec<u8>>>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let mut buffer = vec![0; READ_MAX];
        loop {
            let piece = match input.read(&mut buffer) {
                Ok(0) => return,
                Ok(len) => Ok(buffer.get(..len).unwrap_or_default().to_vec()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let goes_on = piece.is_ok();
            // Where nobody listens any more, nobody needs to know.
            if sender.send(piece).is_err() || !goes_on {
                return;
            }
        }
    })?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        future::{Future as _, poll_fn},
        io::{Seek as _, Write as _},
        pin::pin,
        task::Poll,
    };

    const SENT: &[u8] = b"{\"a\":1}\n\n{\"b\":[2]}\n\n";

    async fn all(mut input: Input) -> Vec<String> {
        let mut found = Vec::new();
        // More than that is more than was sent.
        for _ in 0..9 {
            match input.recv().await {
                Incoming::Frame(frame) => found.push(String::from_utf8(frame).unwrap()),
                Incoming::End => break,
                Incoming::Broken(reason) => found.push(reason),
            }
        }
        assert!(
            matches!(input.recv().await, Incoming::End),
            "the end stays the end"
        );
        found
    }

    #[tokio::test]
    async fn a_pipe_is_read_while_it_is_written_and_a_read_that_is_given_up_loses_nothing() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut input = Input::of(reader.into()).unwrap();
        assert!(matches!(input.source, Source::Pipe(_)));
        let (first, rest) = SENT.split_at(4);
        writer.write_all(first).unwrap();
        // Half of a frame is no frame; whoever waited has something else to do.
        for _ in 0..3 {
            let mut waiting = pin!(input.recv());
            poll_fn(|context| {
                assert!(waiting.as_mut().poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
            tokio::task::yield_now().await;
        }
        writer.write_all(rest).unwrap();
        drop(writer);
        assert_eq!(all(input).await, ["{\"a\":1}", "{\"b\":[2]}"]);
    }

    #[tokio::test]
    async fn a_file_is_read_as_a_pipe_is() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(SENT).unwrap();
        file.rewind().unwrap();
        let input = Input::of(file.into()).unwrap();
        assert!(matches!(input.source, Source::Thread(_)));
        assert_eq!(all(input).await, ["{\"a\":1}", "{\"b\":[2]}"]);
    }

    #[tokio::test]
    async fn what_is_no_message_ends_it_with_the_reason() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"{} nonsense {}").unwrap();
        let found = all(Input::of(reader.into()).unwrap()).await;
        assert_eq!(found, ["{}", "a message must be a JSON object"]);
    }
}
