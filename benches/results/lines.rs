//! The lines of the measuring stand and of `benches/growth.rs`, read back:
//!
//! ```text
//! # 2026-11-26T03:36:02Z 2 cores, 6.18.44, rustc 1.95.0 (…), pythons: python3     begins a run
//! # t1: ns per round trip                                                         the unit of a table
//! t1 rusty_pool 8988.0 5469.0 15.100 n=5 x_limit=2.35 p99=38568.0                 median, min, ratio to the best
//! t6 rusty_pool - - - hung: nothing within 3 s                                    could not, and why
//! ```
//!
//! Whatever else stands in the text is passed over. The rule: figures are compared within one run only.

/// Tables that were measured side by side.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub(crate) head: Option<Head>,
    pub(crate) tables: Vec<Table>,
}

/// When and where.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Head {
    pub(crate) date: String,
    pub(crate) cores: String,
    pub(crate) kernel: String,
    pub(crate) rustc: String,
}

#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) workload: String,
    pub(crate) unit: String,
    pub(crate) rows: Vec<Row>,
}

#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) contender: String,
    /// Why there are no figures, or why there are not more of them.
    pub(crate) reason: Option<String>,
    pub(crate) figures: Option<Figures>,
}

#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) median: f64,
    pub(crate) min: f64,
    /// Divided by the best of the table; growth divides by its first line.
    pub(crate) ratio: Option<f64>,
    pub(crate) more: Vec<(String, f64)>,
}

/// Who somebody in a table is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Ours,
    /// What the machine can do; nobody's rival.
    Limit,
    ByHand,
    Crate,
    Python,
}

impl Kind {
    pub(crate) fn of(contender: &str) -> Kind {
        match contender {
            name if name.starts_with("ours-") => Kind::Ours,
            name if name.starts_with("limit:") => Kind::Limit,
            name if name.starts_with("handmade-") => Kind::ByHand,
            name if name.starts_with("py") && name.contains('/') => Kind::Python,
            _ => Kind::Crate,
        }
    }
}

impl Figures {
    pub(crate) fn more(&self, key: &str) -> Option<f64> {
        self.more.iter().find(|(name, _)| name == key).map(|(_, value)| *value)
    }
}

impl Table {
    pub(crate) fn of(&self, contender: &str) -> Option<&Figures> {
        self.rows.iter().find(|row| row.contender == contender)?.figures.as_ref()
    }

    /// The least median of those that `which` takes.
    pub(crate) fn best(&self, which: impl Fn(&str) -> bool) -> Option<(&str, f64)> {
        self.rows
            .iter()
            .filter(|row| which(&row.contender))
            .filter_map(|row| Some((row.contender.as_str(), row.figures.as_ref()?.median)))
            .min_by(|one, two| one.1.total_cmp(&two.1))
    }

    /// One of growth's: its lines are sizes, not contenders.
    pub(crate) fn is_growth(&self) -> bool {
        self.workload.contains("-by-")
    }
}

impl Run {
    pub(crate) fn table(&self, workload: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.workload == workload)
    }
}

pub(crate) fn read(text: &str) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut unit: Option<(String, String)> = None;
    for line in text.lines() {
        if let Some(remark) = line.strip_prefix("# ") {
            match head(remark) {
                Some(head) => runs.push(Run { head: Some(head), tables: Vec::new() }),
                None if remark.ends_with("on a busy machine") => {}
                None => unit = remark.split_once(": ").map(|(name, unit)| (name.to_owned(), unit.to_owned())),
            }
        } else if let Some((workload, row)) = row(line) {
            if runs.last().is_none_or(|run| told(run, &workload, &row.contender)) {
                let head = runs.last().and_then(|run| run.head.clone());
                runs.push(Run { head, tables: Vec::new() });
            }
            let run = runs.last_mut().expect("there is one now");
            if let Some(table) = run.tables.iter_mut().find(|table| table.workload == workload) {
                table.rows.push(row);
            } else {
                let unit = unit.iter().find(|(name, _)| *name == workload);
                let unit = unit.map(|(_, unit)| unit.clone()).unwrap_or_default();
                run.tables.push(Table { workload, unit, rows: vec![row] });
            }
        }
    }
    runs
}

/// A line that stands there already begins another run.
fn told(run: &Run, workload: &str, contender: &str) -> bool {
    run.table(workload).is_some_and(|table| table.rows.iter().any(|row| row.contender == contender))
}

fn head(remark: &str) -> Option<Head> {
    let (date, rest) = remark.split_once(' ')?;
    let mut parts = rest.split(", ");
    let (cores, kernel, rustc) = (parts.next()?, parts.next()?, parts.next()?);
    let is_date = date.ends_with('Z') && date.contains('T') && cores.ends_with(" cores");
    is_date.then(|| Head {
        date: date.to_owned(),
        cores: cores.to_owned(),
        // What comes after the number is the host's business.
        kernel: kernel.split('-').next().unwrap_or_default().to_owned(),
        rustc: rustc.split(" (").next().unwrap_or_default().to_owned(),
    })
}

fn row(line: &str) -> Option<(String, Row)> {
    let mut words = line.split_whitespace();
    let (workload, contender) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (median, min, ratio) = (words.next()?, words.next()?, words.next()?);
    if (median, min, ratio) == ("-", "-", "-") {
        let reason = words.collect::<Vec<_>>().join(" ");
        return Some((workload, Row { contender, reason: Some(reason), figures: None }));
    }
    let (median, min) = (median.parse().ok()?, min.parse().ok()?);
    let ratio = if ratio == "-" { None } else { Some(ratio.parse().ok()?) };
    let (mut more, mut reason) = (Vec::new(), None);
    for (key, value) in words.filter_map(|word| word.split_once('=')) {
        match value.parse::<f64>() {
            Ok(value) if value.is_finite() => more.push((key.to_owned(), value)),
            Ok(_) => {}
            Err(_) => reason = Some(format!("{}: {}", key.replace('_', " "), value.replace('_', " "))),
        }
    }
    Some((workload, Row { contender, reason, figures: Some(Figures { median, min, ratio, more }) }))
}
