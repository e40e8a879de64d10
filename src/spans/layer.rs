//! In a worker process: the subscriber that makes a record of each event, for the host.
//!
//! The spans that a call enters here stay here: they are kept by the registry of `tracing-subscriber`, and go along as the
//! names and fields that stand in front of an event.
//!
//! Not here: the way to the host (`process/ear.rs`). The rule: events that the host does not want to hear of are not made:
//! its level is that of this process, so a `trace!` that nobody listens to costs what it costs without a subscriber.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record as Values};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

use super::record::{Record, Text, cut, level_of, number_of};

/// What the worker of a host is to tell, as a number; `None` where nobody listens.
pub(crate) fn wanted() -> Option<u8> {
    LevelFilter::current().into_level().map(number_of)
}

/// Has `tell` hear of each event in this process, as a record. A subscriber that is there already stays.
pub(crate) fn install(wanted: u8, tell: impl Fn(&[u8]) + Send + Sync + 'static) {
    let Some(level) = level_of(wanted) else { return };
    let subscriber = Registry::default().with(LevelFilter::from_level(level)).with(ToHost { tell });
    let _ = tracing::subscriber::set_global_default(subscriber);
}

struct ToHost<F> {
    tell: F,
}

/// The fields of a span, as they are written.
#[derive(Default)]
struct Fields {
    /// The one of that name.
    message: Text,
    others: Text,
}

impl Fields {
    fn put(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let Fields { message, others } = self;
        // One that has no more room says so.
        let _ = match field.name() {
            "message" if message.is_empty() => write!(message, "{value:?}"),
            name => write!(others, "{}{name}={value:?}", if others.is_empty() { "" } else { " " }),
        };
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.put(field, &format_args!("{value}"));
        } else {
            self.put(field, &value);
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, &format_args!("{value}"));
    }
}

impl<S, F> Layer<S> for ToHost<F>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    F: Fn(&[u8]) + Send + Sync + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Values<'_>, context: Context<'_, S>) {
        // Not under the lock of the extensions: a value writes itself.
        let mut fields = Fields::default();
        values.record(&mut fields);
        let Some(span) = context.span(id) else { return };
        if let Some(before) = span.extensions_mut().get_mut::<Fields>() {
            let space = if before.others.is_empty() { "" } else { " " };
            let _ = write!(before.others, "{space}{}", fields.others.as_str());
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut spans = Text::default();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            let colon = if spans.is_empty() { "" } else { ":" };
            let written = match span.extensions().get::<Fields>() {
                Some(Fields { others, .. }) if !others.is_empty() => {
                    write!(spans, "{colon}{}{{{}}}", span.name(), others.as_str())
                }
                _ => write!(spans, "{colon}{}", span.name()),
            };
            if written.is_err() {
                break;
            }
        }
        let metadata = event.metadata();
        let record = Record {
            level: number_of(*metadata.level()),
            target: cut(metadata.target()),
            file: metadata.file().map(cut),
            line: metadata.line(),
            module: metadata.module_path().map(cut),
            message: fields.message.as_str(),
            fields: fields.others.as_str(),
            spans: spans.as_str(),
        };
        if let Some(bytes) = record.encode() {
            (self.tell)(&bytes);
        }
    }
}
