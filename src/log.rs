//! The log: this crate's own lines at the level asked for, and of everyone else's only those that tell an operator
//! something that ours do not.
//!
//! Lambda's runtime writes whole payloads at TRACE, the AWS SDK and hyper what they send: request bodies and signatures,
//! which may reach a log at no level. What the runtime says of an invocation that it can't read quotes the caller.

use std::fmt;

use serde::{Serializer as _, ser::SerializeMap};
use tracing::{Event, Subscriber, level_filters::LevelFilter};
use tracing_serde::{AsSerde, SerdeMapVisitor};
use tracing_subscriber::{
    Layer,
    filter::Targets,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::Writer,
        layer,
        time::{FormatTime, SystemTime},
    },
    layer::SubscriberExt,
    registry,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::config::LogConfig;

/// Starts the log, on standard output.
pub fn start(config: LogConfig) {
    let own = Targets::new()
        .with_target(env!("CARGO_CRATE_NAME"), config.level)
        // An answer that never reached Lambda, such as one that is too large.
        .with_target("lambda_runtime::layers::api_client", config.level.min(LevelFilter::WARN));
    let layer = layer().with_ansi(false);
    let layer = if config.is_json { layer.event_format(Json).boxed() } else { layer.boxed() };
    registry().with(layer.with_filter(own)).init();
    std::panic::set_hook(Box::new(|panic| {
        // Where, but not what: the text of a panic can quote what it choked on.
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "panicked");
    }));
    if let Some(variables) = config.unknown_variables {
        tracing::warn!(variables, "the value is unknown; the log is JSON at INFO");
    }
}

/// Lines as `tracing_subscriber`'s own JSON has them when its events are flattened, without spans. Not by its own
/// formatter, which writes a few letters at a time: that takes a tenth of a warm order's time (`bench`), and it would
/// add the runtime's spans.
struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        // With a time in each line: Lambda counts a JSON line without one as INFO.
        let mut timestamp = String::with_capacity(32);
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let mut line = Vec::with_capacity(512);
        let mut write = || {
            let mut json = serde_json::Serializer::new(&mut line);
            let mut map = json.serialize_map(None)?;
            map.serialize_entry("timestamp", &timestamp)?;
            map.serialize_entry("level", &event.metadata().level().as_serde())?;
            let mut fields = SerdeMapVisitor::new(map);
            event.record(&mut fields);
            let mut map = fields.take_serializer()?;
            map.serialize_entry("target", event.metadata().target())?;
            map.end()
        };
        write().map_err(|_: serde_json::Error| fmt::Error)?;
        writer.write_str(str::from_utf8(&line).map_err(|_| fmt::Error)?)?;
        writer.write_char('\n')
    }
}
