//! What a caller can choose. Plain data without any input or output.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub use network::{ClientCertificate, HostAddress, HttpVersion, Interface, IpFamily};
pub use pieces::Pieces;
#[cfg(feature = "proxy")]
pub use proxy::{Proxies, Proxy, ProxyKind};

use crate::model::error::{Error, ErrorKind};
use crate::model::redact::redact_url;
use crate::model::size::exact_words;

mod network;
mod pieces;
#[cfg(feature = "proxy")]
mod proxy;
#[cfg(feature = "serde")]
pub mod serialized;

/// How many connections a download uses at once.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Connections {
    /// Starts with a few, or with the number that an earlier download has shown for the host
    /// ([`EngineConfig::state_directory`]), and keeps looking for the best number while the
    /// download runs: at most 16, or 32 where losses on the way hold each connection back
    /// and nothing was refused.
    #[default]
    Auto,
    /// As [`Self::Auto`], with another bound instead of 32: from 1 to 64.
    AutoUpTo(usize),
    /// At most this many; zero counts as one.
    Fixed(usize),
}

/// Whether a partial download of an earlier run is continued.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Resume {
    /// When the object is provably the same; otherwise it restarts and a notice says so.
    #[default]
    Auto,
    /// Even when nothing but the size shows that the object is the same. A
    /// strong validator that differs still restarts.
    Always,
    /// Never: an existing partial is discarded.
    Never,
}

/// What happens when the output already exists.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Existing {
    /// The download fails with [`ErrorKind::OutputExists`] before anything is written.
    #[default]
    Refuse,
    /// A file that is provably the object already counts as complete, after one request
    /// ([`crate::Summary::unchanged`]): its size is the object's, and so is the version that
    /// was recorded with it, or its time; or it has the digest that was given, or that the
    /// server tells. Any other file is refused, as by [`Self::Refuse`].
    Verify,
    /// The old file is replaced at the moment when the new one is complete.
    Replace,
    /// The new file gets the first name of `NAME`, `NAME (1)`, `NAME (2)` and so on that no
    /// file has and no other download is writing: the number comes before the extension. If
    /// another file takes the name meanwhile, the next free one is used.
    Rename,
}

impl Existing {
    /// Whether an existing file with the output's name stays, and keeps that name.
    pub(crate) fn keeps_old(self) -> bool {
        matches!(self, Self::Refuse | Self::Verify)
    }
}

/// What becomes of a file that another program began and did not complete.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Foreign {
    /// It is left alone, and is in the way if it has the output's name.
    #[default]
    Leave,
    /// It is continued if it is a part of the object, and left as it is otherwise, with
    /// [`ErrorKind::OutputExists`] or [`ErrorKind::LocalFile`].
    ///
    /// Such a file is `NAME` with fewer bytes than the object (curl, wget); `NAME` with
    /// `NAME.aria2`, which lists the pieces that are there (aria2); and `NAME.part`, or a name with
    /// eight random characters more, beside an empty `NAME` (Firefox). Its first, its last and one
    /// other MiB are fetched again and must be the same. `NAME.crdownload` (Chromium), and
    /// `NAME.part` alone, may have holes: they also need a [`Checksum`] or [`Pieces`].
    ///
    /// Bytes that were shown to be of the object become the partial of this download. If that
    /// cannot go on, because the object changes or its digest differs in the end, the file is
    /// given back as it was. With [`Existing::Replace`] a file that is not of the object is
    /// replaced as ever. Has no effect with [`Existing::Rename`], or when the download leaves no
    /// whole file at its name.
    Continue,
}

/// How bytes get into the file.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum StorageKind {
    /// The mapped file where its blocks are reserved, which [`crate::Started::storage`]
    /// tells; elsewhere, for objects of less than 1 MiB, and while storing takes half of a
    /// core, positioned writes.
    ///
    /// If another program truncates the file while a piece is being copied into its map, SIGBUS
    /// ends the process. The length is compared and pages are brought in right before each piece,
    /// so the truncation must hit the copy itself, which takes microseconds. Programs that cannot
    /// accept this choose [`Self::Pwrite`], where a truncation is an error.
    #[default]
    Auto,
    /// As [`Self::Auto`] whatever the size, with a notice where the file cannot be mapped.
    Mmap,
    /// Positioned writes (`pwrite`).
    Pwrite,
    /// Nowhere: the bytes are received, hashed with BLAKE3 and forgotten. There is no
    /// partial, no checkpoint and no output, so such a download cannot be continued.
    /// For measuring the network without the disk. Digests of a server cannot be
    /// compared, and of [`Checksum`] only BLAKE3 can.
    Null,
}

/// Whether the disk's blocks are reserved before the first byte is stored.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Allocation {
    /// Where the file system can; elsewhere the download goes on without, and a notice
    /// says so. Not in memory (tmpfs): reserving takes as long as writing there, so only
    /// the free space is checked.
    #[default]
    Auto,
    /// No: the file is sparse at first, and the disk may turn out to be full midway.
    /// Mapped windows need blocks, so positioned writes are used.
    Sparse,
    /// Yes, or the download fails with [`ErrorKind::LocalFile`].
    Reserve,
}

/// A digest algorithm for [`Checksum`].
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DigestAlgorithm {
    /// BLAKE3, 32 bytes. Costs nothing: it is computed anyway.
    Blake3,
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-512, 64 bytes.
    Sha512,
    /// SHA-1, 20 bytes. Against accidents only.
    Sha1,
    /// MD5, 16 bytes. Against accidents only.
    Md5,
    /// The name of an object in a Git repository with SHA-1: the SHA-1, 20 bytes, of `blob`, a
    /// space, the size in decimal, a NUL and the object. Against accidents only.
    GitBlob {
        /// The object's size in bytes, which is hashed before it.
        object_bytes: u64,
    },
}

impl DigestAlgorithm {
    /// The name as it is written before `=` in a checksum.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blake3 => "blake3",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
            Self::Sha1 => "sha1",
            Self::Md5 => "md5",
            Self::GitBlob { .. } => "git-blob",
        }
    }

    /// How long a digest of this algorithm is, in bytes.
    #[must_use]
    pub fn digest_bytes(self) -> usize {
        match self {
            Self::Blake3 | Self::Sha256 => 32,
            Self::Sha512 => 64,
            Self::Sha1 | Self::GitBlob { .. } => 20,
            Self::Md5 => 16,
        }
    }
}

impl fmt::Display for DigestAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A digest that the object must have.
///
/// Parsed from `ALGO=HEX` with `ALGO` one of `sha256`, `sha512`, `sha1`, `md5`,
/// `blake3`, or from bare hexadecimal digits whose number tells the algorithm
/// (64 digits are SHA-256). [`DigestAlgorithm::GitBlob`] has no such form, since it needs the size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    algorithm: DigestAlgorithm,
    digest: Vec<u8>,
}

impl Checksum {
    /// A checksum from its parts.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if `digest` does not have the algorithm's length.
    pub fn new(algorithm: DigestAlgorithm, digest: Vec<u8>) -> Result<Self, Error> {
        if digest.len() == algorithm.digest_bytes() {
            return Ok(Self { algorithm, digest });
        }
        Err(Error::new(
            ErrorKind::InvalidInput,
            format!(
                "a {algorithm} digest has {} hexadecimal digits, not {}",
                algorithm.digest_bytes() * 2,
                digest.len() * 2
            ),
        ))
    }

    /// The algorithm.
    #[must_use]
    pub fn algorithm(&self) -> DigestAlgorithm {
        self.algorithm
    }

    /// Whether no object can match both: the same algorithm with other bytes.
    pub(crate) fn contradicts(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self != other
    }

    /// The digest's bytes.
    #[must_use]
    pub fn digest(&self) -> &[u8] {
        &self.digest
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.algorithm, hex(&self.digest))
    }
}

impl FromStr for Checksum {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |why: &str| {
            // The URL of a list of digests may be a signed one.
            let shown = if text.contains("://") { redact_url(text) } else { text.to_owned() };
            Error::new(ErrorKind::InvalidInput, format!("checksum {shown:?}: {why}")).with_hint(
                "write ALGO=HEX with ALGO one of sha256, sha512, sha1, md5, blake3; or the bare \
                 hexadecimal digest",
            )
        };
        let (algorithm, digits) = match text.split_once('=') {
            Some((name, digits)) => {
                let algorithm = match name.to_ascii_lowercase().replace('-', "").as_str() {
                    "blake3" => DigestAlgorithm::Blake3,
                    "sha256" => DigestAlgorithm::Sha256,
                    "sha512" => DigestAlgorithm::Sha512,
                    "sha1" => DigestAlgorithm::Sha1,
                    "md5" => DigestAlgorithm::Md5,
                    _ => return Err(invalid("unknown algorithm")),
                };
                (algorithm, digits)
            }
            None => {
                let algorithm = match text.len() {
                    64 => DigestAlgorithm::Sha256,
                    128 => DigestAlgorithm::Sha512,
                    40 => DigestAlgorithm::Sha1,
                    32 => DigestAlgorithm::Md5,
                    _ => return Err(invalid("no algorithm is known for that many digits")),
                };
                (algorithm, text)
            }
        };
        let digest = unhex(digits).ok_or_else(|| invalid("not hexadecimal digits"))?;
        if digest.len() != algorithm.digest_bytes() {
            return Err(invalid(&format!(
                "a {algorithm} digest has {} digits, this has {}",
                algorithm.digest_bytes() * 2,
                digits.len()
            )));
        }
        Ok(Self { algorithm, digest })
    }
}

/// A login for basic authentication that is sent to one host only.
///
/// Hosts are compared as in URLs: case does not matter, nor do the brackets of
/// an IPv6 address; ports are not compared.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
#[derive(Clone, PartialEq, Eq)]
pub struct HostCredential {
    /// The host; `None` is the host of the given URL, whichever it is, and
    /// never one that it redirects to.
    pub host: Option<String>,
    /// The user's name, without a colon.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for HostCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostCredential").field("host", &self.host).finish_non_exhaustive()
    }
}

/// Bounds of retrying. One attempt is one round of backoff of the whole
/// download without any progress; a byte not held before resets the count.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Rounds without progress before the download fails. Default 10.
    pub max_attempts: u32,
    /// The same after a failure that will most likely not pass (no such host, a refused
    /// connection, another protocol, plain HTTP to a port that closes without a byte of an
    /// answer), while no byte of the object has ever arrived and nothing of an earlier run is
    /// here. Never more than [`Self::max_attempts`]. Default 1.
    pub max_hopeless_attempts: u32,
    /// The first wait; doubled each round. Default 1 s.
    #[cfg_attr(feature = "serde", serde(with = "serialized::seconds"))]
    pub base: Duration,
    /// The longest wait between two rounds. Default 30 s.
    #[cfg_attr(feature = "serde", serde(with = "serialized::seconds"))]
    pub max_backoff: Duration,
    /// The longest Retry-After that is honoured. Default 120 s.
    #[cfg_attr(feature = "serde", serde(with = "serialized::seconds"))]
    pub max_retry_after: Duration,
    /// The longest time that rounds without progress may take together, including their waits: a
    /// round that would begin later does not. Default `None`, no bound.
    #[cfg_attr(feature = "serde", serde(with = "serialized::maybe_seconds"))]
    pub max_time: Option<Duration>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 10,
            max_hopeless_attempts: 1,
            base: Duration::from_secs(1),
            max_backoff: Duration::from_secs(30),
            max_retry_after: Duration::from_secs(120),
            max_time: None,
        }
    }
}

/// Each connection reserves 256 KiB while it waits for the network; below this
/// budget too few could work at once.
pub(crate) const MIN_BUDGET_BYTES: usize = 4 << 20;

/// Settings of an [`crate::Engine`], shared by all its downloads. The setters of
/// [`crate::EngineBuilder`] have the same names. A value out of range is
/// [`ErrorKind::InvalidInput`] when the engine is made.
///
/// With the feature `serde` they can be written and read, as
/// [`DownloadOptions`](crate::DownloadOptions) are. A proxy, an interface and a [`HostAddress`] are
/// text as they are parsed from, and the hosts of `Proxies::bypassing` are one text; the origin of
/// a proxy (`Proxy::chosen_by`) is not written. The output contains the logins of proxies in the
/// clear, and the paths of certificates and keys, not their contents.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineConfig {
    /// How long one connection may take to be made. Default 15 s.
    #[cfg_attr(feature = "serde", serde(with = "serialized::seconds"))]
    pub connect_timeout: Duration,
    /// Bytes received and not yet stored, of all downloads together. Default 16 MiB,
    /// at least 4 MiB: each connection reserves 256 KiB of it.
    pub memory_budget_bytes: usize,
    /// The most connections at once, for all downloads together. Default: as many as the memory
    /// budget has room for, 64 with the default budget; never more.
    pub max_connections: Option<usize>,
    /// The most connections at once to one host, as URLs name it, for all downloads
    /// together; idle ones that are kept count as well, and so does each HTTP/2
    /// stream in use. Mirrors and redirect targets are hosts of their own. Default:
    /// no bound of its own.
    pub max_connections_per_host: Option<usize>,
    /// The most downloads at once. Others wait, holding nothing, until one ends
    /// or is paused: the highest priority goes first, and among equals the one
    /// that was started first. [`crate::Event::Queued`] reports it. Default: no
    /// bound but that of the connections.
    pub max_active: Option<usize>,
    /// All downloads together receive at most this many bytes a second, at least 1.
    pub limit_rate_bytes_per_second: Option<u64>,
    /// All downloads from one host together receive at most this many bytes a
    /// second, in addition to the limit above: a host as their URLs name it, or
    /// `*.` and a domain, for all hosts below it together. The closest match
    /// counts: the host itself, else the longest domain. A rate of 0 is no limit.
    pub host_rates: Vec<(String, u64)>,
    /// A PEM file of certificate authorities, instead of the platform's trust store.
    /// On Unix systems other than macOS that store honours `SSL_CERT_FILE` and
    /// `SSL_CERT_DIR`.
    pub ca_file: Option<PathBuf>,
    /// Accept any certificate. Anyone on the path can then read and change everything.
    pub insecure: bool,
    /// The client's identity in TLS.
    pub client_certificate: Option<ClientCertificate>,
    /// Which proxies requests go through. Default none: the environment is read
    /// only by [`Proxies::from_env`].
    #[cfg(feature = "proxy")]
    pub proxies: Proxies,
    /// Which version of HTTP is spoken.
    pub http_version: HttpVersion,
    /// Where connections start. Default: wherever the system's routes say.
    pub interface: Option<Interface>,
    /// Addresses of this family only.
    pub ip_family: Option<IpFamily>,
    /// Addresses that are not looked up; the first entry for a host and port counts.
    pub resolve: Vec<HostAddress>,
    /// The User-Agent header. Default `haul/VERSION`.
    pub user_agent: String,
    /// A directory to remember in, across runs, what servers have shown: how many
    /// connections to a host were worth having ([`Connections::Auto`] starts with
    /// that number). Its file `hosts` has at most 512 lines of a host, a port and
    /// a number, is readable by its owner only, and may be removed at any time.
    /// Default `None`: nothing is remembered.
    pub state_directory: Option<PathBuf>,
    /// Writer threads that copy, hash and store. Default: 1 on up to 2 cores, else 2.
    pub writer_threads: Option<usize>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(15),
            memory_budget_bytes: 16 << 20,
            max_connections: None,
            max_connections_per_host: None,
            max_active: None,
            limit_rate_bytes_per_second: None,
            host_rates: Vec::new(),
            ca_file: None,
            insecure: false,
            client_certificate: None,
            #[cfg(feature = "proxy")]
            proxies: Proxies::default(),
            http_version: HttpVersion::default(),
            interface: None,
            ip_family: None,
            resolve: Vec::new(),
            user_agent: concat!("haul/", env!("CARGO_PKG_VERSION")).to_owned(),
            state_directory: None,
            writer_threads: None,
        }
    }
}

impl EngineConfig {
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a value that is out of range, which is quoted.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let invalid = |message: String| Err(Error::new(ErrorKind::InvalidInput, message));
        if self.memory_budget_bytes < MIN_BUDGET_BYTES {
            let size = exact_words(self.memory_budget_bytes as u64);
            return invalid(format!("a memory budget of {size} is too small: 4 MiB is the least"));
        }
        let at_least_one = [
            ("connections", self.max_connections),
            ("connections to a host", self.max_connections_per_host),
            ("active downloads", self.max_active),
            ("writer threads", self.writer_threads),
        ];
        if let Some((what, _)) = at_least_one.iter().find(|(_, most)| *most == Some(0)) {
            return invalid(format!("nothing can be downloaded with 0 {what}"));
        }
        if self.limit_rate_bytes_per_second == Some(0) {
            return invalid(
                "a rate of 0 bytes a second would never end: 1 is the least".to_owned(),
            );
        }
        Ok(())
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_read_with_and_without_algorithm() {
        let digits = "ab".repeat(32);
        let named: Checksum = format!("SHA-256={digits}").parse().unwrap();
        let bare: Checksum = digits.parse().unwrap();
        assert_eq!(named, bare);
        assert_eq!(bare.to_string(), format!("sha256={digits}"));
        let blake: Checksum = format!("blake3={digits}").parse().unwrap();
        assert_eq!(blake.algorithm(), DigestAlgorithm::Blake3);
    }

    #[test]
    fn bad_checksum_quotes_what_was_given() {
        for bad in ["sha256=xyz", "crc=00", "sha256=00", "é", "md5=éé"] {
            let error = bad.parse::<Checksum>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
            assert!(error.hint().is_some());
        }
    }
}
