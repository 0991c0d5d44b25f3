//! The times of a run, in one table at its end.

use std::fmt::Write as _;
use std::time::Duration;

/// One figure.
#[derive(Clone, Debug)]
pub struct Figure {
    /// The case that measured it.
    pub case: String,
    /// What was measured.
    pub what: String,
    /// The figure, with its unit.
    pub value: String,
    /// What it should be, where there is a goal.
    pub goal: String,
}

/// A time in seconds or milliseconds, whichever reads better.
#[must_use]
pub fn time(time: Duration) -> String {
    if time < Duration::from_secs(2) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

/// The median; the mean of the middle two where the count is even.
#[must_use]
pub fn median(times: &[Duration]) -> Option<Duration> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let upper = sorted.get(sorted.len() / 2)?;
    let lower = sorted.get((sorted.len() - 1) / 2)?;
    Some((*upper + *lower) / 2)
}

/// The figures as a table.
#[must_use]
pub fn render(figures: &[Figure]) -> String {
    let head = ["case", "what", "measured", "goal"].map(str::to_owned);
    let rows: Vec<[String; 4]> = std::iter::once(head)
        .chain(figures.iter().map(|f| {
            [
                f.case.clone(),
                f.what.clone(),
                f.value.clone(),
                f.goal.clone(),
            ]
        }))
        .collect();
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    for row in &rows {
        let line = format!(
            "{:a$}  {:b$}  {:c$}  {}",
            row[0],
            row[1],
            row[2],
            row[3],
            a = widths[0],
            b = widths[1],
            c = widths[2],
        );
        writeln!(text, "{}", line.trim_end()).expect("a String takes text");
    }
    text
}
