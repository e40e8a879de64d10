//! The five figures as bars, an SVG by hand. A plotting crate would give axes and no more: five small scales, rows
//! that are named, and colours that follow a dark page are ours to say either way.
//!
//! Each figure has its own scale in powers of ten, from the power below its least bar. How wide text is, nobody knows
//! here: names have room for [`NAME`] letters before the bars, values a margin behind the scale.

use std::fmt::Write;

use crate::figures::{Bar, QUESTIONS, Who};
use crate::lines::Run;
use crate::report::{digits, figure};
use crate::targets::Unit;

const WIDTH: f64 = 900.0;
/// Where bars begin and where the scale ends.
const LEFT: f64 = 292.0;
const RIGHT: f64 = 740.0;
/// Letters of a name.
const NAME: usize = 38;
const ROW: f64 = 22.0;

const STYLE: &str = "
text { font: 13px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #24292f }
.page { fill: #ffffff } .value { paint-order: stroke; stroke: #ffffff; stroke-width: 5px }
.title { font-weight: 600; font-size: 14px } .small { font-size: 11px; fill: #57606a }
.line { stroke: #d0d7de } .ours { fill: #c2410c } .other { fill: #8c96a3 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .page { fill: #0d1117 } .value { stroke: #0d1117 } .small { fill: #9aa4af }
.line { stroke: #30363d } .ours { fill: #fb923c } .other { fill: #6e7883 }
}
";

pub(crate) fn svg(runs: &[Run]) -> String {
    let mut body = String::new();
    let mut top = 16.0;
    for question in &QUESTIONS {
        let bars = question.bars(runs);
        let _ =
            writeln!(body, r#"<text class="title" x="16" y="{:.0}">{}</text>"#, top + 14.0, question.title);
        top += 26.0;
        if bars.is_empty() {
            let _ = writeln!(body, r#"<text class="small" x="16" y="{:.0}">not measured</text>"#, top + 12.0);
            top += 34.0;
            continue;
        }
        panel(&mut body, &bars, top);
        top += bars.len() as f64 * ROW + 36.0;
    }
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top:.0}" width="{WIDTH}" height="{top:.0}" role="img" aria-label="Five figures: ours beside others; shorter is faster">
<style>{STYLE}</style>
<rect class="page" width="{WIDTH}" height="{top:.0}" rx="6"/>
<text class="small" x="{:.0}" y="30" text-anchor="end">shorter is faster; each step is ten times; × is of ours</text>
{body}</svg>
"#,
        WIDTH - 16.0
    )
}

fn panel(body: &mut String, bars: &[Bar], top: f64) {
    let values = || bars.iter().map(|bar| bar.value);
    let low = values().fold(f64::INFINITY, f64::min).log10().floor();
    // A least bar on a power of ten would have no length.
    let low = if values().any(|value| value.log10() - low < 0.1) { low - 1.0 } else { low };
    let high = values().fold(0.0, f64::max).log10().ceil().max(low + 1.0);
    let at = |power: f64| LEFT + (power - low) / (high - low) * (RIGHT - LEFT);
    let foot = top + bars.len() as f64 * ROW;
    for power in low as i32..=high as i32 {
        let x = at(f64::from(power));
        let tick = figure(10f64.powi(power), Unit::Nanoseconds);
        let _ = writeln!(
            body,
            r#"<line class="line" x1="{x:.1}" x2="{x:.1}" y1="{top:.0}" y2="{foot:.0}"/>
<text class="small" x="{x:.1}" y="{:.0}" text-anchor="middle">{tick}</text>"#,
            foot + 13.0
        );
    }
    let ours = bars[0].value;
    for (row, bar) in bars.iter().enumerate() {
        let y = top + row as f64 * ROW;
        let end = at(bar.value.log10());
        let (class, name) = match bar.who {
            Who::Ours => ("ours", "concurrent-futures".to_owned()),
            Who::ByHand => ("other", format!("by hand: {}", bar.contender.trim_start_matches("handmade-"))),
            Who::Crate => ("other", bar.contender.clone()),
            Who::CPython => {
                ("other", format!("CPython: {}", bar.contender.split('/').next_back().unwrap_or_default()))
            }
        };
        let name: String = name.chars().take(NAME).collect();
        let times = if row == 0 { String::new() } else { format!(" · {} ×", digits(bar.value / ours)) };
        let _ = writeln!(
            body,
            r#"<text x="{:.0}" y="{:.0}" text-anchor="end">{name}</text>
<rect class="{class}" x="{LEFT}" y="{:.0}" width="{:.1}" height="16" rx="2"/>
<text class="value" x="{:.1}" y="{:.0}">{}{times}</text>"#,
            LEFT - 8.0,
            y + 15.0,
            y + 3.0,
            end - LEFT,
            end + 6.0,
            y + 15.0,
            figure(bar.value, Unit::Nanoseconds),
        );
    }
}
