//! How functions, times and numbers are written where there is little room.

use std::time::Duration;

/// The last part of a path, without what is generic: `resize` for `photos::resize::<Jpeg>`, `main {closure}` for the closure
/// `photos::main::{{closure}}`.
pub(super) fn short(name: &str) -> String {
    let (mut depth, mut plain, mut last) = (0usize, String::with_capacity(name.len()), ' ');
    for letter in name.chars() {
        match letter {
            '<' => depth += 1,
            // `fn() -> u32` closes nothing.
            '>' if last != '-' => depth = depth.saturating_sub(1),
            _ if depth == 0 => plain.push(letter),
            _ => {}
        }
        last = letter;
    }
    let mut parts = plain.rsplit("::").filter(|part| !part.is_empty());
    let closures = parts.clone().take_while(|part| *part == "{{closure}}").count();
    match (parts.nth(closures), closures) {
        (Some(part), 0) => part.to_owned(),
        (Some(part), _) => format!("{part} {{closure}}"),
        (None, _) => name.to_owned(),
    }
}

/// With three digits, in the unit that fits.
pub(super) fn span(time: Duration) -> String {
    let nanoseconds = time.as_nanos() as f64;
    match time.as_nanos() {
        0 => "0".into(),
        1..1_000 => format!("{nanoseconds} ns"),
        1_000..999_500 => format!("{} µs", three(nanoseconds / 1e3)),
        999_500..999_500_000 => format!("{} ms", three(nanoseconds / 1e6)),
        999_500_000..119_500_000_000 => format!("{} s", three(nanoseconds / 1e9)),
        119_500_000_000..7_170_000_000_000 => format!("{} min", three(nanoseconds / 60e9)),
        _ => format!("{} h", three(nanoseconds / 3600e9)),
    }
}

fn three(number: f64) -> String {
    let digits = if number < 9.995 { 2 } else { usize::from(number < 99.95) };
    format!("{number:.digits$}")
}

/// With a comma at each thousand.
pub(super) fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many of a thing.
pub(super) fn many(number: usize, thing: &str) -> String {
    format!("{} {thing}{}", count(number), if number == 1 { "" } else { "s" })
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_last_part_of_its_path() {
        for (long, name) in [
            ("photos::resize", "resize"),
            ("photos::resize::<image::Jpeg, 3>", "resize"),
            ("<photos::Album as store::Store>::put", "put"),
            ("photos::main::{{closure}}", "main {closure}"),
            ("photos::main::{{closure}}::{{closure}}", "main {closure}"),
            ("photos::main<fn(u8) -> alloc::string::String>::{{closure}}", "main {closure}"),
            ("promise", "promise"),
            ("", ""),
            ("::<>", "::<>"),
        ] {
            assert_eq!(short(long), name, "{long}");
        }
    }

    #[test]
    fn a_time_has_three_digits() {
        for (nanoseconds, text) in [
            (0, "0"),
            (7, "7 ns"),
            (1_000, "1.00 µs"),
            (45_678, "45.7 µs"),
            (999_499, "999 µs"),
            (999_500, "1.00 ms"),
            (1_240_000_000, "1.24 s"),
            (90_000_000_000, "90.0 s"),
            (120_000_000_000, "2.00 min"),
            (7_200_000_000_000, "2.00 h"),
        ] {
            assert_eq!(span(Duration::from_nanos(nanoseconds)), text);
        }
    }

    #[test]
    fn a_number_has_commas() {
        let texts = [0, 999, 1_000, 1_234_567].map(count);
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([many(1, "task"), many(2_000, "task")], ["1 task", "2,000 tasks"]);
    }
}
