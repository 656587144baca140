//! `HAUL_LOG`: the engine's traces, for debugging.

use std::io;

use tracing_subscriber::EnvFilter;

use crate::render;

/// Sends the engine's traces to stderr if `HAUL_LOG` names any, as in `HAUL_LOG=haul_engine=debug`.
/// Costs nothing otherwise.
pub(crate) fn init() {
    let Ok(directives) = std::env::var("HAUL_LOG") else { return };
    match EnvFilter::try_new(&directives) {
        Ok(filter) => {
            let format = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
            // This fails only if an embedding program already has a subscriber of its own.
            let _ = format.with_ansi(false).try_init();
        }
        Err(error) => {
            let quoted = render::escape(&directives);
            render::to_stderr(&[format!("note: HAUL_LOG `{quoted}` is ignored: {error}")]);
        }
    }
}
