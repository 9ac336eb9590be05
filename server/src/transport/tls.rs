//! TLS: a certificate and its key from PEM files, read anew when they change.
//!
//! Renewed files take the place of the old ones without a restart; ones that cannot be used leave the old certificate in
//! use, because a backup that cannot be reached stops nodes.

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    fs::{self, Metadata},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

/// Where a certificate and its key lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, PEM, the server's own certificate first.
    pub cert: PathBuf,
    /// The private key, PEM, readable by its owner alone.
    pub key: PathBuf,
}

/// Why a certificate cannot be used. Each says what to do; no key is in any message.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {cause}; give it to the user that runs the server, or name another with {flag} FILE", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The flag that names it.
        flag: &'static str,
        /// Why.
        cause: io::Error,
    },
    /// Others than its owner may use the key.
    #[error("{} may be used by others (mode {mode:04o}); run: chmod 0400 {}", .file.display(), .file.display())]
    Exposed {
        /// The key file.
        file: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// There is no certificate in the file.
    #[error("{} does not hold certificates in PEM (\"-----BEGIN CERTIFICATE-----\"); name the full chain with --tls-cert FILE", .file.display())]
    NoCertificate {
        /// The file.
        file: PathBuf,
    },
    /// There is no key in the file.
    #[error("{} does not hold an unencrypted private key in PEM; name the certificate's key with --tls-key FILE", .file.display())]
    NoKey {
        /// The file.
        file: PathBuf,
    },
    /// They do not go together, or are of a kind that is not understood.
    #[error("the certificate in {} and the key in {} cannot be used: {cause}; name a certificate and its own key with --tls-cert and --tls-key", .files.cert.display(), .files.key.display())]
    Unusable {
        /// The files.
        files: TlsFiles,
        /// Why.
        cause: rustls::Error,
    },
}

/// What tells one version of a file from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The files as they were when they were last looked at; `None` for one that cannot be seen.
type Seen = [Option<Stamp>; 2];

/// The certificate that new connections are shown.
#[derive(Debug)]
pub struct Certificates {
    files: TlsFiles,
    seen: RwLock<Seen>,
    current: Arc<Current>,
    config: Arc<ServerConfig>,
}

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl Certificates {
    /// Reads the files.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let seen = look(&files);
        let current = Arc::new(Current(RwLock::new(Arc::new(read(&files, &provider)?))));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|cause| TlsError::Unusable {
                files: files.clone(),
                cause,
            })?
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            files,
            seen: RwLock::new(seen),
            current,
            config: Arc::new(config),
        })
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.clone())
    }

    /// Reads the files again. Where they cannot be used, the certificate stays the one it was.
    pub fn reload(&self) -> Result<(), TlsError> {
        // Before they are read: what changes after that is seen to have changed.
        *self.seen.write().unwrap_or_else(PoisonError::into_inner) = look(&self.files);
        let fresh = read(&self.files, self.config.crypto_provider())?;
        *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        Ok(())
    }

    /// [Reads](Certificates::reload) the files again if they are not those that were read last; whether they were.
    pub fn reload_if_changed(&self) -> Result<bool, TlsError> {
        if *self.seen.read().unwrap_or_else(PoisonError::into_inner) == look(&self.files) {
            return Ok(false);
        }
        self.reload().map(|()| true)
    }
}

fn look(files: &TlsFiles) -> Seen {
    [&files.cert, &files.key].map(|file| fs::metadata(file).ok().as_ref().map(Stamp::of))
}

fn read(files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let chain = fs::read(&files.cert).map_err(unreadable(&files.cert, "--tls-cert"))?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&chain)
        .collect::<Result<_, _>>()
        .ok()
        .filter(|chain: &Vec<_>| !chain.is_empty())
        .ok_or_else(|| TlsError::NoCertificate {
            file: files.cert.clone(),
        })?;
    let key = PrivateKeyDer::from_pem_slice(&read_key(&files.key)?).map_err(|_| TlsError::NoKey {
        file: files.key.clone(),
    })?;
    CertifiedKey::from_der(chain, key, provider).map_err(|cause| TlsError::Unusable {
        files: files.clone(),
        cause,
    })
}

fn read_key(file: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let failed = || unreadable(file, "--tls-key");
    let mut open = fs::File::open(file).map_err(failed())?;
    let metadata = open.metadata().map_err(failed())?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(TlsError::Exposed {
            file: file.to_owned(),
            mode,
        });
    }
    // Room for all of it at once: a buffer that grows leaves copies behind.
    let room = usize::try_from(metadata.len()).unwrap_or(0).min(1 << 20) + 1;
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    open.read_to_end(&mut text).map_err(failed())?;
    Ok(text)
}

fn unreadable(file: &Path, flag: &'static str) -> impl Fn(io::Error) -> TlsError {
    let file = file.to_owned();
    move |cause| TlsError::Unreadable {
        file: file.clone(),
        flag,
        cause,
    }
}
