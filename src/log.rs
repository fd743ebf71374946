//! The log: this crate's own lines at the level asked for, everyone else's from WARN up.
//!
//! Lambda's runtime writes whole payloads at TRACE, the AWS SDK and hyper what they send: request bodies and signs,
//! which may reach a log at no level.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer, filter::Targets, fmt, layer::SubscriberExt, registry, util::SubscriberInitExt};

use crate::config::LogConfig;

/// Starts the log, on standard output.
pub fn start(config: LogConfig) {
    let own = Targets::new()
        .with_default(config.level.min(LevelFilter::WARN))
        .with_target(env!("CARGO_CRATE_NAME"), config.level)
        // It repeats what the line of the order has said.
        .with_target("lambda_runtime::layers::panic", LevelFilter::OFF);
    let layer = fmt::layer().with_ansi(false);
    // With a time in each line: Lambda counts a JSON line without one as INFO.
    let layer = if config.is_json { layer.json().flatten_event(true).boxed() } else { layer.boxed() };
    registry().with(layer.with_filter(own)).init();
    std::panic::set_hook(Box::new(|panic| {
        // Where, but not what: the text of a panic can quote what it choked on.
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "panicked");
    }));
}
