//! The three stages, and how they are joined.
//!
//! Each stage is a map, and its items are the results of the stage before. They are pulled: whoever wants the next result
//! of `store` makes room there, so `store` pulls from `make`, and `make` from `fetch`. Meanwhile the workers of each are
//! busy with what it has in hand.
//!
//! Not here: how a thumbnail is made (`thumbnails/pictures.rs`). The rule: a stage never has more pictures in hand than its
//! `buffersize`, so a million of them need no more memory than a few. One that fails is told of, and left out.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use concurrent_futures::{Blob, Error, Executor, Map, MapOptions, ProcessPoolExecutor, ThreadPoolExecutor};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use ureq::Agent;

use crate::pictures;

/// Fetches each item's picture with threads, which wait for the server; makes its thumbnails with processes, where a
/// picture that is too much for its decoder harms no other; stores these with threads again.
pub(crate) fn run(
    [fetch, make, store]: &[Stage; 3],
    items: impl Iterator<Item = Item<String>> + Send,
    sizes: &[u32],
    destination: &str,
) -> Result<(), Error> {
    let fetchers = ThreadPoolExecutor::new(fetch.workers)?;
    let makers = ProcessPoolExecutor::new(make.workers)?;
    let storers = ThreadPoolExecutor::new(store.workers)?;
    // One client for all, with a connection for each worker. No proxy: the server is on this machine.
    let connections = fetch.workers + store.workers;
    let client = Agent::config_builder().proxy(None).max_idle_connections(connections);
    let client: Agent = client.max_idle_connections_per_host(connections).build().into();

    let source = client.clone();
    let get = move |item: Item<String>| item.then(|url| get(&source, &url));
    let fetched = fetchers.try_map_with(get, items, fetch.options());

    let jobs = fetch.passed(fetched, |picture| picture.len()).map(|item| (item, sizes.to_vec()));
    let made = makers.try_map_with(thumbnails, jobs, make.options());
    let made = make.passed(made, |made| made.files.iter().map(|file| file.len()).sum());

    let destination = destination.to_owned();
    let put = move |item: Item<Thumbnails>| {
        let to = format!("{destination}/{}", item.number);
        item.then(|made| put(&client, &to, made))
    };
    let stored = storers.try_map_with(put, made, store.options());
    // Whatever is pulled here, all three are at work for.
    store.passed(stored, |bytes| *bytes).for_each(drop);
    Ok(())
}

fn get(client: &Agent, url: &str) -> Result<Blob, ureq::Error> {
    let mut answer = client.get(url).call()?;
    // A blob: it goes to the worker process as memory that both have.
    Ok(Blob::from(answer.body_mut().with_config().limit(u64::MAX).read_to_vec()?))
}

/// In the worker process.
fn thumbnails((item, sizes): (Item<Blob>, Vec<u32>)) -> Result<Item<Thumbnails>, String> {
    item.then(|picture| {
        let made = pictures::shrink(&picture, &sizes)?;
        let files = made.files.into_iter().map(Blob::from).collect();
        Ok::<_, pictures::PictureError>(Thumbnails { sizes, extension: made.extension.into(), files })
    })
}

/// All thumbnails of a picture. The bytes that were stored.
fn put(client: &Agent, url: &str, made: Thumbnails) -> Result<usize, ureq::Error> {
    for (size, file) in made.sizes.iter().zip(&made.files) {
        client.put(format!("{url}-{size}.{}", made.extension)).send(&file[..])?;
    }
    Ok(made.files.iter().map(|file| file.len()).sum())
}

#[derive(Serialize, Deserialize)]
struct Thumbnails {
    sizes: Vec<u32>,
    extension: String,
    files: Vec<Blob>,
}

/// A picture on its way: what one stage hands to the next.
#[derive(Serialize, Deserialize)]
pub(crate) struct Item<T> {
    number: usize,
    name: String,
    content: T,
    /// What the last stage took.
    took: Duration,
}

impl<T> Item<T> {
    pub(crate) fn new(number: usize, name: String, content: T) -> Self {
        Item { number, name, content, took: Duration::ZERO }
    }

    /// Does the work of a stage on it. An error says which picture it was.
    fn then<U, E: Display>(self, work: impl FnOnce(T) -> Result<U, E>) -> Result<Item<U>, String> {
        let Item { number, name, content, .. } = self;
        let start = Instant::now();
        match work(content) {
            Ok(content) => Ok(Item { number, name, content, took: start.elapsed() }),
            Err(error) => Err(format!("{name}: {error}")),
        }
    }
}

/// A stage of the pipeline: its workers, its bar, and what went through it.
pub(crate) struct Stage {
    pub(crate) name: &'static str,
    pub(crate) executor: &'static str,
    pub(crate) workers: usize,
    bar: ProgressBar,
    tally: Mutex<Tally>,
}

/// What went through a stage.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) pictures: usize,
    pub(crate) bytes: usize,
    /// Of all workers together.
    pub(crate) busy: Duration,
}

impl Stage {
    pub(crate) fn new(
        name: &'static str,
        executor: &'static str,
        workers: usize,
        pictures: usize,
        bars: &MultiProgress,
    ) -> Self {
        let style =
            ProgressStyle::with_template("{prefix:>6} {bar:40} {pos:>3} of {len} pictures  {per_sec}");
        let bar = ProgressBar::new(pictures as u64).with_prefix(name).with_style(style.expect("a constant"));
        Stage { name, executor, workers, bar: bars.add(bar), tally: Mutex::default() }
    }

    /// The bar moves when a picture is done, whoever has asked for it by then. For each worker there is one picture in
    /// its hands, and one ready for it; and as many are done and wait for the stage behind.
    fn options(&self) -> MapOptions {
        let bar = self.bar.clone();
        MapOptions::new().buffersize(4 * self.workers).on_item_done(move |_, _| bar.inc(1))
    }

    /// What goes on to the next stage.
    fn passed<'a, T>(
        &'a self,
        results: Map<'a, Item<T>>,
        bytes: impl Fn(&T) -> usize + Send + 'a,
    ) -> impl Iterator<Item = Item<T>> + Send + 'a
    where
        T: Send + 'static,
    {
        results.filter_map(move |result| match result {
            Ok(item) => {
                let bytes = bytes(&item.content);
                let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
                tally.pictures += 1;
                tally.bytes += bytes;
                tally.busy += item.took;
                Some(item)
            }
            Err(error) => {
                let cause = match &error {
                    Error::Raised { error, .. } => error.to_string(),
                    other => other.to_string(),
                };
                self.bar.suspend(|| eprintln!("{}: {cause}", self.name));
                None
            }
        })
    }

    pub(crate) fn tally(&self) -> Tally {
        *self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which part of the time its workers were busy.
    pub(crate) fn busy(&self, time: Duration) -> f64 {
        self.tally().busy.as_secs_f64() / (time.as_secs_f64() * self.workers as f64)
    }
}
