//! In the host: what a worker process has logged becomes an event again, for the subscriber of whoever submitted the call.
//!
//! `tracing` wants the names of an event's fields to be constants, so all that come out of workers have the same ones,
//! listed in [`FIELDS`], and the target `concurrent_futures::worker`. Filters are asked about the target that the event had.
//!
//! The rule: a record is a claim. One that cannot be read is dropped, and costs the worker nothing.

use tracing::field::{self, Field, FieldSet, Value};
use tracing::metadata::Kind;
use tracing::subscriber::Interest;
use tracing::{Dispatch, Event, Level, Metadata, dispatcher};
use tracing_core::callsite::{Callsite, Identifier};
use tracing_core::identify_callsite;

use super::record::{Record, level_of};
use super::{Home, is_one, tasks};
use crate::id::TaskRef;

/// The fields of such an event.
const FIELDS: &[&str] =
    &["message", "fields", "spans", "target", "module", "file", "line", "task", "worker", "pid"];

const TARGET: &str = "concurrent_futures::worker";

const NAME: &str = "event of a worker process";

/// The worker that says it.
pub(crate) struct Worker<'a> {
    pub(crate) name: &'a str,
    pub(crate) pid: u32,
    pub(crate) home: &'a Home,
}

/// Tells what a worker has told. `task`: the call that it ran meanwhile, if it has that in hand.
pub(crate) fn tell_again(record: &[u8], worker: &Worker<'_>, task: Option<TaskRef>) {
    let Some(record) = Record::decode(record) else { return };
    let Some(level) = level_of(record.level) else { return };
    let tell = |dispatch: &Dispatch, span: Option<tracing::Id>| {
        if is_one(dispatch) {
            tell_to(dispatch, span, &record, level, worker, task);
        }
    };
    // It is entered, so that filters which go by spans see it.
    let told = task.and_then(|task| tasks::span_of(task.id)).and_then(|span| {
        span.with_subscriber(|(id, dispatch)| {
            dispatcher::with_default(dispatch, || span.in_scope(|| tell(dispatch, Some(id.clone()))));
        })
    });
    if told.is_none() {
        worker.home.with(|| dispatcher::get_default(|dispatch| tell(dispatch, None)));
    }
}

fn tell_to(
    dispatch: &Dispatch,
    span: Option<tracing::Id>,
    record: &Record<'_>,
    level: Level,
    worker: &Worker<'_>,
    task: Option<TaskRef>,
) {
    let &Record { target, file, line, module, message, fields, spans, .. } = record;
    let site = site_of(level);
    let as_it_was = Metadata::new(
        NAME,
        target,
        level,
        file,
        line,
        module,
        FieldSet::new(FIELDS, identify_callsite!(site)),
        Kind::EVENT,
    );
    if !dispatch.enabled(&as_it_was) {
        return;
    }
    let message = field::display(message);
    let task = task.map(|task| task.id.get());
    let some = |text: &'_ str| !text.is_empty();
    let values: [Option<&dyn Value>; 10] = [
        Some(&message),
        some(fields).then_some(&fields),
        some(spans).then_some(&spans),
        Some(&target),
        module.as_ref().map(|module| module as &dyn Value),
        file.as_ref().map(|file| file as &dyn Value),
        line.as_ref().map(|line| line as &dyn Value),
        task.as_ref().map(|task| task as &dyn Value),
        Some(&worker.name),
        Some(&worker.pid),
    ];
    let metadata = site.0;
    let mut names = metadata.fields().iter();
    let names: [Option<Field>; 10] = std::array::from_fn(|_| names.next());
    let [Some(a), Some(b), Some(c), Some(d), Some(e), Some(f), Some(g), Some(h), Some(i), Some(j)] = &names
    else {
        return;
    };
    let names = [a, b, c, d, e, f, g, h, i, j];
    let pairs: [(&Field, Option<&dyn Value>); 10] = std::array::from_fn(|n| (names[n], values[n]));
    let values = metadata.fields().value_set(&pairs);
    dispatch.event(&Event::new_child_of(span, metadata, &values));
}

/// Where such events of one level come from, as `tracing` sees it.
struct Site(&'static Metadata<'static>);

impl Callsite for Site {
    /// Each is asked about by itself.
    fn set_interest(&self, _: Interest) {}

    fn metadata(&self) -> &Metadata<'static> {
        self.0
    }
}

macro_rules! site {
    ($level:ident) => {{
        static SITE: Site = Site(&METADATA);
        static METADATA: Metadata<'static> = Metadata::new(
            NAME,
            TARGET,
            Level::$level,
            None,
            None,
            None,
            FieldSet::new(FIELDS, Identifier(&SITE)),
            Kind::EVENT,
        );
        &SITE
    }};
}

fn site_of(level: Level) -> &'static Site {
    match level {
        Level::ERROR => site!(ERROR),
        Level::WARN => site!(WARN),
        Level::INFO => site!(INFO),
        Level::DEBUG => site!(DEBUG),
        Level::TRACE => site!(TRACE),
    }
}
