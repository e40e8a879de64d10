//! The picture: an SVG of a lane per worker, a bar per attempt of a call, and how many calls were queued.
//!
//! ```text
//!   title
//!   legend
//!   pool            tasks, workers, how busy
//!     pool_0  ▒▒░████████░░██████░░░   73 %        ▒ starting  ░ idle  █ a call
//!     pool_1  ▒▒░██░██░█░░██░██░░░░░   41 %
//!     queued  ▅▅▄▄▃▂▁
//!             0     20 ms    40 ms                 time, the same for all
//! ```
//!
//! Not here: which bar lies in which lane (`lanes.rs`); colours and words (`paint.rs`), the time axis (`axis.rs`), bars that
//! are too many to be drawn one by one (`dense.rs`), what is pinned on top (`marks.rs`).
//!
//! The rule: the size of a picture has a bound, whatever was recorded: some 100 kB for most, at worst 1.5 MB. What is not drawn
//! is said.

mod axis;
mod dense;
mod marks;
mod paint;

use std::collections::BTreeMap;
use std::fmt::Write;
use svg::node::element::path::Data;
use svg::node::element::{Definitions, Group, Path, Pattern, Rectangle, Style, Text, Title};
use svg::{Document, Node};

use self::axis::Axis;
use self::paint::Paint;
use super::lanes::{Bar, Lane, Stay, queued, share, utilisation};
use super::names::{count, many, percent, short, span};
use super::story::{Outcome, TaskRecord, Timeline, WorkerEnd, WorkerRecord};

const WIDTH: f64 = 1200.0;
/// Where lanes begin and end, from left to right. Names stand before them, shares behind them.
const PLOT: (f64, f64) = (150.0, 1140.0);
const MARGIN: f64 = 16.0;

/// So many bars are drawn one by one, whatever their width.
const FEW_BARS: usize = 500;
/// At most so many: the widest. Each is about 200 bytes.
const MOST_BARS: usize = 2000;
/// Of many, those narrower than this are drawn together.
const NARROW: f64 = 3.0;
/// How high that is which lies deeper than a lane shows.
const HINT: f64 = 5.0;
/// At most so many lanes.
const MOST_LANES: usize = 240;
/// Of more workers than this, those of a lane are drawn together.
const MOST_LIVES: usize = 800;
/// Of more marks than this, some are one.
const MOST_MARKS: usize = 400;
/// Of more pools than this, the queues are drawn less finely.
const MOST_QUEUES: usize = 20;

impl Timeline {
    /// The picture, as [`write_svg`](Timeline::write_svg) writes it.
    ///
    /// ```
    /// use concurrent_futures::timeline::Recorder;
    ///
    /// let picture = Recorder::new().timeline().svg();
    /// assert!(picture.starts_with("<svg"));
    /// ```
    #[must_use]
    pub fn svg(&self) -> String {
        let lanes = self.lanes();
        let (drawn, left) = lanes.split_at(lanes.len().min(MOST_LANES));
        let mut picture = Picture::of(self, drawn);
        picture.title(&lanes, left.len());
        picture.legend(drawn);
        let top = picture.y;
        for pool in drawn.chunk_by(|one, other| one.pool == other.pool) {
            picture.pool(pool);
        }
        picture.finish(top)
    }
}

struct Picture<'a> {
    timeline: &'a Timeline,
    tasks: BTreeMap<u32, Vec<&'a TaskRecord>>,
    axis: Axis,
    rows: Rows,
    /// Bars at least as wide as this are drawn one by one.
    narrow: f64,
    /// How wide a column is of what is drawn together.
    column: f64,
    /// Workers of a lane are drawn together.
    crowded: bool,
    /// How far apart marks are at least.
    apart: f64,
    /// How wide a column is of a queue.
    queues: f64,
    body: Group,
    /// What is drawn next is drawn below.
    y: f64,
}

/// How high lanes are: the more there are, the less.
#[derive(Clone, Copy)]
struct Rows {
    bar: f64,
    gap: f64,
    /// How much of a bar is seen above the one inside of it.
    step: f64,
    levels: usize,
    letters: Option<f64>,
}

impl Rows {
    fn of(lanes: usize) -> Self {
        match lanes {
            0..=24 => Rows { bar: 20.0, gap: 6.0, step: 14.0, levels: 4, letters: Some(11.0) },
            25..=80 => Rows { bar: 12.0, gap: 3.0, step: 5.0, levels: 3, letters: Some(9.0) },
            _ => Rows { bar: 5.0, gap: 1.0, step: 0.0, levels: 1, letters: None },
        }
    }

    fn height(&self, lane: &Lane<'_>) -> f64 {
        let levels = lane.levels.clamp(1, self.levels);
        let hint = if lane.levels > levels && self.letters.is_some() { HINT } else { 0.0 };
        self.bar + (levels - 1) as f64 * self.step + hint
    }

    /// Where the bars of a level lie in a lane of that height: from the top, and how high.
    fn strip(&self, height: f64, level: usize) -> (f64, f64) {
        let level = level.min(self.levels - 1) as f64;
        let (top, bottom) = (level * self.step, height - 2.0 * level);
        (top, (bottom - top).max(2.0))
    }
}

impl<'a> Picture<'a> {
    fn of(timeline: &'a Timeline, lanes: &[Lane<'_>]) -> Self {
        let axis = Axis::new(timeline.wall, PLOT);
        let mut widths: Vec<f64> =
            lanes.iter().flat_map(|lane| &lane.bars).map(|bar| axis.length(bar.from, bar.to)).collect();
        let narrow = if widths.len() <= FEW_BARS {
            0.0
        } else {
            widths.sort_by(|one, other| other.total_cmp(one));
            // A little more than that of the first that has no place any more: all of one width are drawn alike.
            widths.get(MOST_BARS).map_or(NARROW, |width| (width + 0.001).max(NARROW))
        };
        let rows = Rows::of(lanes.len());
        let marks: usize = lanes.iter().map(marks::number).sum();
        // Many are set as if every lane were full of them.
        let full = lanes.len() as f64 * axis.width() / MOST_MARKS as f64;
        let apart = if marks > MOST_MARKS { full.max(9.0) } else { 9.0 };
        let pools = lanes.chunk_by(|one, other| one.pool == other.pool).count();
        let strips: usize = lanes.iter().map(|lane| lane.levels.clamp(1, rows.levels)).sum();
        Picture {
            timeline,
            tasks: timeline.by_pool(),
            axis,
            rows,
            narrow,
            column: strips.div_ceil(40).max(1) as f64,
            crowded: timeline.workers.len() > MOST_LIVES,
            apart,
            queues: pools.div_ceil(MOST_QUEUES).max(1) as f64,
            body: Group::new(),
            y: MARGIN,
        }
    }

    fn put(&mut self, node: impl Into<Box<dyn Node>>) {
        self.body.append(node);
    }

    fn title(&mut self, lanes: &[Lane<'_>], lanes_left: usize) {
        let Timeline { tasks, workers, wall, left_out, .. } = self.timeline;
        let calls: usize = tasks.iter().map(|task| task.calls).sum();
        let mut text = many(tasks.len(), "task");
        if calls != tasks.len() {
            let _ = write!(text, " ({})", many(calls, "call"));
        }
        let places = lanes.iter().filter(|lane| lane.number.is_some()).count();
        let _ = write!(text, " in {} · {}", span(*wall), many(places, "worker"));
        if workers.len() > places {
            let _ = write!(text, " and {}", many(workers.len() - places, "successor"));
        }
        let _ = write!(text, " · {} busy", percent(utilisation(lanes)));
        self.y += 18.0;
        self.put(label(&text, "title", MARGIN, self.y));
        let mut remarks = Vec::new();
        if *left_out > 0 {
            remarks.push(format!("the recorder was full: {} left out", many(*left_out, "event")));
        }
        if lanes_left > 0 {
            remarks.push(format!("{} not drawn", many(lanes_left, "more lane")));
        }
        if !remarks.is_empty() {
            self.y += 18.0;
            self.put(label(&remarks.join("; "), "remark", MARGIN, self.y));
        }
        self.y += 12.0;
    }

    /// What occurs in the picture, and how often.
    fn legend(&mut self, lanes: &[Lane<'_>]) {
        let mut entries: Vec<(Group, String)> = Vec::new();
        for (paint, number) in paint::counts(self.timeline, lanes) {
            let swatch = swatch(paint.class());
            entries.push((swatch, format!("{} {}", paint.words(), count(number))));
        }
        if lanes.iter().any(|lane| !lane.lives.is_empty()) {
            entries.push((swatch("there"), "idle".into()));
        }
        if lanes.iter().any(|lane| !lane.starting.is_zero()) {
            entries.push((swatch("there").add(block("starting", 0.0, -9.0, 10.0, 10.0)), "starting".into()));
        }
        let lives = lanes.iter().flat_map(|lane| lane.lives);
        let deaths = lives.filter(|life| life.end == Some(WorkerEnd::Died)).count();
        if deaths > 0 {
            entries.push((
                Group::new().add(marks::cross(5.0, -4.0, 1.0)),
                format!("process died {}", count(deaths)),
            ));
        }
        let attempts = lanes.iter().flat_map(|lane| &lane.bars).map(|bar| bar.attempt.outcome);
        let limits = attempts.filter(|outcome| *outcome == Some(Outcome::TimedOut)).count();
        if limits > 0 {
            entries.push((
                Group::new().add(marks::clock(5.0, -4.0, 1.0)),
                format!("time limit {}", count(limits)),
            ));
        }
        if lanes.iter().any(|lane| lane.bars.iter().any(|bar| self.is_narrow(bar))) {
            let tooth = Path::new().set("class", Paint::Finished.class()).set("d", "M0 1V-3H3V-8H6V-1H10V1Z");
            entries.push((Group::new().add(tooth), "many short ones: how busy".into()));
        }
        let mut x = MARGIN;
        self.y += 14.0;
        for (picture, words) in entries {
            let width = 15.0 + wide(&words, 11.0) + 18.0;
            if x + width > WIDTH - MARGIN && x > MARGIN {
                (x, self.y) = (MARGIN, self.y + 18.0);
            }
            self.put(picture.set("transform", format!("translate({} {})", tenth(x), tenth(self.y))));
            self.put(label(&words, "small", x + 15.0, self.y));
            x += width;
        }
        self.y += 14.0;
    }

    fn pool(&mut self, lanes: &[Lane<'_>]) {
        let number = lanes[0].pool;
        let name =
            self.timeline.pools.iter().find(|pool| pool.number == number).map_or("", |pool| &pool.name);
        let tasks = self.tasks.remove(&number).unwrap_or_default();
        let lives = || lanes.iter().flat_map(|lane| lane.lives);
        let kind = if lives().any(|life| life.pid.is_some()) { "worker process" } else { "worker thread" };
        let places =
            self.timeline.workers.chunk_by(|one, other| (one.pool, one.number) == (other.pool, other.number));
        let places = places.filter(|lives| lives[0].pool == number).count();
        let workers = match (places, kind) {
            (1, _) => format!("1 {kind}"),
            (_, "worker process") => format!("{} {kind}es", count(places)),
            _ => format!("{} {kind}s", count(places)),
        };
        self.y += 22.0;
        let name = shortened(name, PLOT.1 / 2.0, 13.0);
        self.put(label(&name, "pool head", MARGIN, self.y));
        let text =
            format!("{} · {workers} · {} busy", many(tasks.len(), "task"), percent(utilisation(lanes)));
        let x = (PLOT.0 + 4.0).max(MARGIN + wide(&name, 14.0) + 16.0);
        self.put(label(&text, "small head", x, self.y));
        if self.rows.letters.is_some() {
            self.put(label("busy", "faint", WIDTH - MARGIN, self.y).set("text-anchor", "end"));
        }
        self.y += 8.0;
        for lane in lanes {
            self.lane(lane);
        }
        self.queue(&tasks);
    }

    fn lane(&mut self, lane: &Lane<'_>) {
        let (y, height) = (self.y, self.rows.height(lane));
        if let Some(size) = self.rows.letters {
            let name = ended(lane.name, PLOT.0 - MARGIN - 8.0, size);
            let middle = y + height / 2.0 + size * 0.36;
            self.put(label(&name, "small", MARGIN, middle).set("font-size", size));
            // Those elsewhere have other things to do as well.
            if lane.number.is_some() {
                let share = percent(share(lane.busy, lane.there));
                let x = WIDTH - MARGIN;
                self.put(label(&share, "small", x, middle).set("font-size", size).set("text-anchor", "end"));
            }
        }
        self.lives(lane, y, height);
        for level in 0..lane.levels.clamp(1, self.rows.levels) {
            let deepest = level + 1 == self.rows.levels;
            let here = |bar: &&Bar<'_>| bar.level == level || (deepest && bar.level > level);
            let (top, high) = self.rows.strip(height, level);
            let (narrow, wide): (Vec<&Bar<'_>>, Vec<&Bar<'_>>) =
                lane.bars.iter().filter(here).partition(|bar| self.is_narrow(bar));
            if let Some(together) = dense::group(&self.axis, self.column, &narrow, y + top, high) {
                self.put(together);
            }
            for bar in wide {
                // Of what lies deeper than can be shown there is a hint.
                let hint = if bar.level > level { (high - HINT).max(0.0) } else { 0.0 };
                self.bar(lane, bar, y + top + hint, high - hint);
            }
        }
        let size = if self.rows.letters.is_some() { 1.0 } else { 0.6 };
        for mark in marks::of(self.timeline, &self.axis, self.apart, lane, y + height / 2.0, size) {
            self.put(mark);
        }
        self.y += height + self.rows.gap;
    }

    fn is_narrow(&self, bar: &Bar<'_>) -> bool {
        self.axis.length(bar.from, bar.to) < self.narrow
    }

    /// When there was a worker, and when it was not ready yet.
    fn lives(&mut self, lane: &Lane<'_>, y: f64, height: f64) {
        let stays = lane.lives.iter().map(|life| (Some(life), self.timeline.stay(life)));
        let mut stays: Vec<_> = stays.filter(|(_, stay)| stay.ended > stay.spawned).collect();
        if self.crowded {
            let mut together: Vec<(Option<&WorkerRecord>, Stay)> = Vec::new();
            for (_, stay) in stays {
                match together.last_mut() {
                    Some((_, last)) if self.axis.length(last.ended, stay.spawned) < 8.0 * self.column => {
                        last.ended = last.ended.max(stay.ended);
                    }
                    _ => together.push((None, Stay { ready: stay.spawned, ..stay })),
                }
            }
            stays = together;
        }
        for (life, Stay { spawned, ready, ended }) in stays {
            let (x, width) = (self.axis.x(spawned), self.axis.length(spawned, ended));
            let there = block("there", x, y, width.max(0.5), height);
            self.put(match life {
                Some(life) => there.add(title(&self.about_worker(life))),
                None => there,
            });
            let starting = self.axis.length(spawned, ready);
            if starting >= 0.5 {
                let words = format!("starting: {}", span(ready - spawned));
                self.put(block("starting", x, y, starting, height).add(title(&words)));
            }
        }
    }

    fn bar(&mut self, lane: &Lane<'_>, bar: &Bar<'_>, y: f64, height: f64) {
        let paint = Paint::of(bar);
        let (x, width) = self.axis.bar(bar.from, bar.to);
        let inside = if bar.level > 0 { " inside" } else { "" };
        let class = format!("bar {}{inside}", paint.class());
        self.put(block(&class, x, y, width, height).add(title(&self.about(lane, bar))));
        let Some(size) = self.rows.letters.filter(|size| height >= size + 2.0) else { return };
        let mut name = short(bar.task.name);
        if bar.attempt.number > 1 {
            let _ = write!(name, " ({})", bar.attempt.number);
        }
        // The clock of a time limit stands at the end.
        let room = width - if paint == Paint::TimedOut { 26.0 } else { 8.0 };
        let name = shortened(&name, room, size);
        if name.chars().count() > 2 {
            // In the part of it that no other bar lies in.
            let middle = (height / 2.0).min(if lane.levels > 1 {
                self.rows.step.max(size + 2.0) / 2.0 + 0.5
            } else {
                height
            });
            let class = if paint.is_dark() { "in on-dark" } else { "in" };
            self.put(label(&name, class, x + 4.0, y + middle + size * 0.36).set("font-size", size));
        }
    }

    /// How many calls were queued, and those that were never run.
    fn queue(&mut self, tasks: &[&TaskRecord]) {
        const HEIGHT: f64 = 36.0;
        let queued = queued(tasks);
        let most = queued.iter().map(|&(_, queued)| queued).max().unwrap_or(0);
        let bottom = self.y + 4.0 + HEIGHT;
        let never = marks::never_run(tasks, &self.axis, 2.0 * self.queues, bottom);
        if most == 0 && never.is_empty() {
            return;
        }
        let columns = dense::steps(&self.axis, self.queues, &queued);
        let height = |queued: usize| bottom - HEIGHT * queued as f64 / most.max(1) as f64;
        let mut outline = Data::new().move_to((PLOT.0 as f32, bottom as f32));
        let mut last = 0;
        for (column, &queued) in columns.iter().enumerate() {
            if queued != last {
                outline = outline
                    .horizontal_line_to(tenth((PLOT.0 + column as f64 * self.queues).min(PLOT.1)) as f32);
                outline = outline.vertical_line_to(tenth(height(queued)) as f32);
                last = queued;
            }
        }
        outline = outline.horizontal_line_to(PLOT.1 as f32).vertical_line_to(bottom as f32).close();
        let words = format!("at most {} queued", count(most));
        self.put(Path::new().set("class", "queued").set("d", outline).add(title(&words)));
        self.put(label("queued", "small", MARGIN, bottom - 16.0));
        self.put(label(&format!("at most {}", count(most)), "faint", MARGIN, bottom - 3.0));
        never.into_iter().for_each(|mark| self.put(mark));
        self.y = bottom + 6.0;
    }

    fn finish(mut self, top: f64) -> String {
        let bottom = self.y + 4.0;
        let (lines, labels) = self.axis.draw(top, bottom);
        self.put(labels);
        let height = tenth(bottom + 24.0 + MARGIN);
        let hatched = Pattern::new()
            .set("id", "hatched")
            .set("width", 4)
            .set("height", 4)
            .set("patternUnits", "userSpaceOnUse")
            .add(
                Path::new()
                    .set("d", "M-1 1L1 -1M0 4L4 0M3 5L5 3")
                    .set("stroke", "#8a9299")
                    .set("stroke-width", 0.9),
            );
        let document = Document::new()
            .set("viewBox", (0, 0, WIDTH, height))
            .set("width", WIDTH)
            .set("height", height)
            .set("font-family", "Helvetica, Arial, 'DejaVu Sans', sans-serif")
            .add(Style::new(paint::style()))
            .add(Definitions::new().add(hatched))
            .add(block("paper", 0.0, 0.0, WIDTH, height))
            .add(lines)
            .add(self.body);
        document.to_string()
    }

    fn about(&self, lane: &Lane<'_>, bar: &Bar<'_>) -> String {
        let Bar { task, attempt, from, to, .. } = bar;
        let mut text = format!("{} (task {})\n", task.name, task.id);
        let _ = match attempt.outcome {
            Some(outcome) => write!(text, "{outcome} after {}", span(bar.ran())),
            None if attempt.again => write!(text, "ended after {}", span(bar.ran())),
            None => write!(text, "still ran after {}", span(bar.ran())),
        };
        if attempt.number > 1 || attempt.again {
            let _ = write!(text, ", attempt {}", attempt.number);
        }
        if attempt.again {
            text += ", to be tried again";
        }
        if task.failed > 0 {
            let _ = write!(text, ", {} of its {} failed", count(task.failed), many(task.calls, "item"));
        } else if task.calls > 1 {
            let _ = write!(text, ", {}", many(task.calls, "item"));
        }
        if let Some(waited) = task.waited().filter(|_| attempt.number <= 1) {
            let _ = write!(text, ", queued for {}", span(waited));
        }
        let pid = attempt.worker.and_then(|worker| self.timeline.workers[worker].pid);
        let who = pid.map_or(lane.name.to_owned(), |pid| format!("{}, process {pid}", lane.name));
        let _ = write!(text, "\n{who}: {} to {}", span(*from), span(*to));
        text
    }

    fn about_worker(&self, worker: &WorkerRecord) -> String {
        let Stay { spawned, ready, ended } = self.timeline.stay(worker);
        let mut text = worker.name.clone();
        if let Some(pid) = worker.pid {
            let _ = write!(text, ", process {pid}");
        }
        let _ = write!(text, ": from {}", span(spawned));
        if ready > spawned && worker.ready.is_some() {
            let _ = write!(text, ", ready after {}", span(ready - spawned));
        }
        let _ = match worker.end {
            Some(WorkerEnd::Left) => write!(text, ", left at {}", span(ended)),
            Some(WorkerEnd::Recycled) => write!(text, ", used up at {}", span(ended)),
            Some(WorkerEnd::Died) => write!(text, ", died at {}", span(ended)),
            None => Ok(()),
        };
        text
    }
}

fn tenth(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

fn block(class: &str, x: f64, y: f64, width: f64, height: f64) -> Rectangle {
    Rectangle::new()
        .set("class", class)
        .set("x", tenth(x))
        .set("y", tenth(y))
        .set("width", tenth(width))
        .set("height", tenth(height))
}

fn swatch(class: &str) -> Group {
    Group::new().add(block(class, 0.0, -9.0, 10.0, 10.0))
}

fn label(text: &str, class: &str, x: f64, y: f64) -> Text {
    Text::new(printable(text)).set("class", class).set("x", tenth(x)).set("y", tenth(y))
}

/// What is shown when one points at it.
fn title(text: &str) -> Title {
    Title::new(printable(text))
}

/// XML has no way to write most of the others.
fn printable(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() && letter != '\n' { '\u{fffd}' } else { letter })
        .collect()
}

/// How wide a text is, about: fonts differ, and this is for wide ones.
fn wide(text: &str, size: f64) -> f64 {
    let letter = |letter: char| match letter {
        'f' | 'i' | 'j' | 'l' | 'r' | 't' | ' ' | '.' | ',' | ':' | '(' | ')' | '{' | '}' | '|' | '\'' => {
            0.38
        }
        'm' | 'w' | '%' | '…' => 0.95,
        'A'..='Z' | '_' => 0.68,
        _ => 0.61,
    };
    text.chars().map(letter).sum::<f64>() * size
}

/// As much of a text as fits.
fn shortened(text: &str, width: f64, size: f64) -> String {
    if wide(text, size) <= width {
        return text.to_owned();
    }
    let kept = that_fit(text.chars(), width, size);
    if kept.is_empty() { kept } else { kept + "…" }
}

/// The same, without its beginning: workers differ in their ends.
fn ended(text: &str, width: f64, size: f64) -> String {
    if wide(text, size) <= width {
        return text.to_owned();
    }
    let kept = that_fit(text.chars().rev(), width, size);
    format!("…{}", kept.chars().rev().collect::<String>())
}

/// The first letters, with room for three dots.
fn that_fit(letters: impl Iterator<Item = char>, width: f64, size: f64) -> String {
    let mut room = width - wide("…", size);
    let fits = |letter: &char| {
        room -= wide(letter.encode_utf8(&mut [0; 4]), size);
        room >= 0.0
    };
    letters.take_while(fits).collect()
}
