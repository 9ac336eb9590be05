//! An S3 server of its own for one test program: a real one, which keeps objects as files below a directory that tests may
//! look at, damage and remove. It goes with the program, however that ends.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

#[path = "../../../../tests/src/tools.rs"]
#[expect(unreachable_pub, reason = "another crate has this file too, and shows it")]
pub(crate) mod tools;

/// Who may use it.
pub(crate) const KEY_ID: &str = "backstop";
/// And with what.
pub(crate) const SECRET: &str = "a secret of this test alone";

/// An S3 server that runs.
pub(crate) struct Storage {
    /// Every bucket is a directory in it.
    root: PathBuf,
    /// `http://127.0.0.1:PORT`
    pub(crate) endpoint: String,
    buckets: AtomicU32,
    /// Ends the server when its input ends, which it does with this program.
    _guard: Child,
}

impl Storage {
    /// The one that all tests of this program share, each with a bucket of its own.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Storage> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn start() -> Self {
        let root = tempfile::tempdir().unwrap().keep();
        let script = "\"$0\" --host 127.0.0.1 --port 0 --access-key \"$2\" --secret-key \"$3\" \"$1\" & read -r _; kill $!; wait; rm -rf \"$1\"";
        let mut guard = Command::new("sh")
            .args(["-c", script])
            .arg(tools::found("s3s-fs"))
            .arg(&root)
            .args([KEY_ID, SECRET])
            .env("RUST_LOG", "s3s_fs=info")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // What interrupts the test must not interrupt the clearing up.
            .process_group(0)
            .spawn()
            .unwrap();
        let mut said = BufReader::new(guard.stdout.take().unwrap());
        let mut line = String::new();
        let endpoint = loop {
            line.clear();
            assert_ne!(
                said.read_line(&mut line).unwrap(),
                0,
                "the S3 server did not start"
            );
            if let Some(at) = line.find("http://") {
                let rest = line[at..].trim_end();
                break rest
                    .split(|c: char| c == ',' || c.is_whitespace())
                    .next()
                    .unwrap()
                    .to_owned();
            }
        };
        // It goes on talking, and somebody must listen.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self {
            root,
            endpoint,
            buckets: AtomicU32::new(0),
            _guard: guard,
        }
    }

    /// Makes a bucket; its name.
    pub(crate) fn bucket(&self) -> String {
        let number = self.buckets.fetch_add(1, Ordering::Relaxed);
        let name = format!("bucket-{number}");
        fs::create_dir(self.directory(&name)).unwrap();
        name
    }

    /// Where a bucket's objects lie as files.
    pub(crate) fn directory(&self, bucket: &str) -> PathBuf {
        self.root.join(bucket)
    }
}
