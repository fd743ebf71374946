//! The log: this crate's own lines at the level asked for, everyone else's from WARN up.
//!
//! Lambda's runtime writes whole payloads at TRACE, the AWS SDK and hyper what they send: request bodies and signs,
//! which may reach a log at no level.

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
        .with_default(config.level.min(LevelFilter::WARN))
        .with_target(env!("CARGO_CRATE_NAME"), config.level)
        // It repeats what the line of the order has said.
        .with_target("lambda_runtime::layers::panic", LevelFilter::OFF);
    let layer = layer().with_ansi(false);
    let layer = if config.is_json { layer.event_format(Json).boxed() } else { layer.boxed() };
    registry().with(layer.with_filter(own)).init();
    std::panic::set_hook(Box::new(|panic| {
        // Where, but not what: the text of a panic can quote what it choked on.
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "panicked");
    }));
}

/// Lines as `tracing_subscriber`'s own JSON has them when its events are flattened and no span is open, as none ever is
/// here. They are written in one piece: its own go through a formatter a few letters at a time, which takes a tenth of
/// an order's time.
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
