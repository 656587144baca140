//! What a builder shows of itself: no secret.

use std::fmt;

use super::DownloadBuilder;
use crate::model::redact::redact_url;

/// URLs without login and query, names of headers without their values, and of what the
/// program brought only that it is there: its own `Debug` may show anything.
impl fmt::Debug for DownloadBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mirrors: Vec<String> = self.mirrors.iter().map(|url| redact_url(url)).collect();
        let headers: Vec<&str> = self.headers.iter().map(|(name, _)| &**name).collect();
        let hosts: Vec<_> = self.host_credentials.iter().map(|login| &login.host).collect();
        f.debug_struct("DownloadBuilder")
            .field("url", &redact_url(&self.url))
            .field("selection", &self.selection)
            .field("mirrors", &mirrors)
            .field("refresh", &self.refresh.is_some())
            .field("pieces", &self.pieces)
            .field("headers", &headers)
            .field("basic_auth", &self.basic_auth.is_some())
            .field("host_credentials", &hosts)
            .field("cookies", &self.cookies.is_some())
            .field("output", &self.output)
            .field("directory", &self.directory)
            .field("connections", &self.connections)
            .field("existing", &self.existing)
            .field("if_changed", &self.if_changed)
            .field("in_place", &self.in_place)
            .field("resume", &self.resume)
            .field("checksum", &self.checksum)
            .field("expected_size_bytes", &self.expected_size_bytes)
            .field("max_size_bytes", &self.max_size_bytes)
            .field("retry", &self.retry)
            .field("stall_timeout", &self.stall_timeout)
            .field("storage", &self.storage)
            .field("own_storage", &self.own_storage)
            .field("observers", &self.observers)
            .finish_non_exhaustive()
    }
}
