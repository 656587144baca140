//! stub
mod config;
mod download;
mod error;
mod event;

pub use config::{
    Checksum, Connections, DigestAlgorithm, EngineConfig, Existing, Resume, RetryPolicy,
    StorageKind,
};
pub use download::{redact_url, Download, DownloadBuilder, Engine, Events};
pub use error::{Error, ErrorKind};
pub use event::{
    Event, MapCell, Notice, NoticeCode, Plan, Progress, Started, Summary, ValidatorKind,
};
