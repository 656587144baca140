//! One download, from its options to its end.

use std::path::PathBuf;
use std::time::Duration;

use haul_engine::{DownloadBuilder, Error, ErrorKind, Monitor, Summary};

use crate::options::Conflicts;

/// The first and the longest interval between looks at whether another download has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
const LOOK_RARELY: Duration = Duration::from_secs(8);

/// How a download ended well.
pub(crate) struct Done {
    pub(crate) summary: Summary,
    /// Whether the output existed and nobody looked at it.
    pub(crate) is_skipped: bool,
}

/// Runs a download to its end; dropping the future stops it, and what it has is kept. `begun` gets
/// the view of each attempt.
pub(crate) async fn run(
    builder: DownloadBuilder,
    conflicts: Conflicts,
    begun: impl Fn(Monitor),
) -> Result<Done, Error> {
    let mut pause = LOOK_AGAIN;
    loop {
        let download = builder.clone().start()?;
        begun(download.monitor());
        let error = match download.wait().await {
            Ok(summary) => return Ok(Done { summary, is_skipped: false }),
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::Locked if conflicts.waits => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LOOK_RARELY);
            }
            ErrorKind::OutputExists if conflicts.skips => return skipped(builder).await,
            _ => return Err(error),
        }
    }
}

/// What there is to say of an output that existed. The server is asked only where it names the file.
async fn skipped(mut builder: DownloadBuilder) -> Result<Done, Error> {
    let options = builder.options_mut();
    let output: PathBuf = match &options.output {
        Some(output) => options.directory.join(output),
        None => builder.plan().await?.output,
    };
    let mut summary = Summary::default();
    summary.bytes = std::fs::metadata(&output).map_or(0, |found| found.len());
    summary.output = output;
    summary.unchanged = true;
    Ok(Done { summary, is_skipped: true })
}
