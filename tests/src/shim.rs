//! A few lines of C (`shim.c`) between programs under measurement and their C library: flushes are slower by as much as one
//! says, and are counted, as allocations are. It works on our programs, on SQLite in them, and on PostgreSQL.

use anyhow::{Context, Result, ensure};
use std::{
    env,
    ffi::OsStr,
    fs::{self, File, OpenOptions, Permissions},
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tempfile::TempDir;

/// Names the control file to preloaded programs.
const VARIABLE: &str = "BACKSTOP_SHIM";
/// Bytes of the control file: four numbers of 64 bits, see `shim.c`.
const CONTROL_LEN: u64 = 32;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Flushes alone: nothing else gets slower.
    Flushes,
    /// Calls of the C library's allocator too.
    Allocations,
}

/// What programs did since the control file was made, all of them together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls of `fsync` and `fdatasync`.
    pub flushes: u64,
    /// Pieces of memory asked for.
    pub allocations: u64,
    /// Their bytes.
    pub allocated: u64,
}

/// The compiled shim and its control file.
pub struct Shim {
    library: PathBuf,
    path: PathBuf,
    control: File,
    /// Removed when dropped; nothing where another process made it.
    _own: Option<TempDir>,
}

impl Shim {
    /// Compiles it by this machine's C compiler, which building the programs took too.
    pub fn compile(count: Count) -> Result<Self> {
        // Another user's programs, as PostgreSQL's, must read it.
        let own = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o755))
            .tempdir()?;
        let library = own.path().join("shim.so");
        let mut compiler = Command::new("cc");
        compiler.args(["-O2", "-shared", "-fPIC"]);
        if count == Count::Allocations {
            compiler.arg("-DCOUNT_ALLOCATIONS");
        }
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/shim.c");
        let output = compiler.arg("-o").arg(&library).arg(source).output();
        let output = output.context("there is no C compiler `cc`: install build-essential")?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let path = own.path().join("control");
        File::create(&path)?.set_len(CONTROL_LEN)?;
        fs::set_permissions(&path, Permissions::from_mode(0o666))?;
        Ok(Self {
            library,
            control: open(&path)?,
            path,
            _own: Some(own),
        })
    }

    /// The one that this very process was started under, if it was.
    pub fn inherited() -> Result<Option<Self>> {
        let Some(path) = env::var_os(VARIABLE).map(PathBuf::from) else {
            return Ok(None);
        };
        Ok(Some(Self {
            library: env::var_os("LD_PRELOAD").unwrap_or_default().into(),
            control: open(&path)?,
            path,
            _own: None,
        }))
    }

    /// What the environment of a program says that is to run under it.
    pub fn variables(&self) -> [(&'static str, &OsStr); 2] {
        [
            ("LD_PRELOAD", self.library.as_os_str()),
            (VARIABLE, self.path.as_os_str()),
        ]
    }

    /// From now on each flush of each of its programs takes longer by so much.
    pub fn delay(&self, time: Duration) -> Result<()> {
        let nanos = u64::try_from(time.as_nanos())?;
        Ok(self.control.write_all_at(&nanos.to_ne_bytes(), 0)?)
    }

    /// What its programs did until now.
    pub fn counts(&self) -> Result<Counts> {
        let number = |place: u64| -> Result<u64> {
            let mut bytes = [0; 8];
            self.control.read_exact_at(&mut bytes, place * 8)?;
            Ok(u64::from_ne_bytes(bytes))
        };
        Ok(Counts {
            flushes: number(1)?,
            allocations: number(2)?,
            allocated: number(3)?,
        })
    }
}

fn open(path: &Path) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_preloaded_program_is_counted_and_its_flushes_are_slower() {
        let shim = Shim::compile(Count::Allocations).unwrap();
        let sync = || {
            let mut sync = Command::new("sync");
            sync.arg("--data").arg(&shim.path).envs(shim.variables());
            let began = Instant::now();
            assert!(sync.status().unwrap().success());
            began.elapsed()
        };
        sync();
        let first = shim.counts().unwrap();
        assert_eq!(first.flushes, 1);
        assert!(first.allocations > 0 && first.allocated > first.allocations);
        shim.delay(Duration::from_millis(300)).unwrap();
        // A bound from below: nothing makes it faster.
        assert!(sync() >= Duration::from_millis(300));
        assert_eq!(shim.counts().unwrap().flushes, 2);
    }
}
