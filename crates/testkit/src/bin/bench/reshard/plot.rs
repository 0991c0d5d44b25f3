//! The figures as a picture: a bar for the speed of each way, and one for what its client felt.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::Series;
use crate::local::Failure;

const ROW: u32 = 22;
const GAP: u32 = 30;
const NAMES: u32 = 230;
const BAR: u32 = 300;
const WIDTH: u32 = NAMES + 2 * (BAR + 110);

/// Writes `target/bench-reshard.svg`, beside the folder that this program was built into.
pub(super) fn write(all: &[Series]) -> Result<PathBuf, Failure> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2).unwrap_or(Path::new("."));
    let path = target.join("bench-reshard.svg");
    std::fs::write(&path, picture(all))?;
    Ok(path)
}

fn picture(all: &[Series]) -> String {
    let mut groups: Vec<Vec<&Series>> = Vec::new();
    for series in all {
        let same = |group: &Vec<&Series>| {
            let first = group[0];
            first.engine == series.engine
                && first.data.name == series.data.name
                && first.loaded == series.loaded
        };
        match groups.iter_mut().find(|group| same(group)) {
            Some(group) => group.push(series),
            None => groups.push(vec![series]),
        }
    }
    let mut body = String::new();
    let mut y = GAP;
    for group in &groups {
        y = panel(&mut body, group, y);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

/// One data set on one engine. Returns where the next one begins.
fn panel(body: &mut String, group: &[&Series], top: u32) -> u32 {
    let first = group[0];
    let beside = if first.loaded {
        ", beside a client"
    } else {
        ""
    };
    text(
        body,
        8,
        top,
        true,
        &format!("{}, {}{beside}", first.engine, first.data.title()),
    );
    let one_key = first.data.zset_mb > 0;
    let speed = |series: &Series| {
        if one_key {
            series.mb_per_s()
        } else {
            series.keys_per_s()
        }
    };
    let felt = |series: &Series| series.p999().map(|time| time.as_secs_f64() * 1000.0);
    let right = NAMES + BAR + 110;
    text(
        body,
        NAMES,
        top,
        false,
        if one_key { "MB/s" } else { "keys/s" },
    );
    if first.loaded {
        text(body, right, top, false, "client's p99.9 in ms");
    }
    let most = |of: &dyn Fn(&Series) -> Option<f64>| {
        group
            .iter()
            .filter_map(|series| of(series))
            .fold(f64::MIN_POSITIVE, f64::max)
    };
    let (fastest, longest) = (most(&speed), most(&felt));
    let mut y = top;
    for series in group {
        y += ROW;
        text(body, 8, y, false, &series.way.name());
        bar(body, NAMES, y, series, speed(series), fastest);
        bar(body, right, y, series, felt(series), longest);
    }
    y + GAP
}

fn bar(body: &mut String, x: u32, y: u32, series: &Series, value: Option<f64>, most: f64) {
    let Some(value) = value else { return };
    let width = value / most * f64::from(BAR);
    let color = if series.way.is_ours() {
        "#2f6fb0"
    } else {
        "#b8b8b8"
    };
    let digits = usize::from(value < 100.0);
    let top = y - 12;
    writeln!(
        body,
        "<rect x=\"{x}\" y=\"{top}\" width=\"{width:.1}\" height=\"16\" fill=\"{color}\"/>\n\
         <text x=\"{:.1}\" y=\"{y}\">{value:.digits$}</text>",
        f64::from(x) + width + 6.0
    )
    .expect("a String takes all");
}

fn text(body: &mut String, x: u32, y: u32, heading: bool, words: &str) {
    let weight = if heading { "bold" } else { "normal" };
    let shift = if heading { 2 } else { 0 };
    writeln!(
        body,
        "<text x=\"{x}\" y=\"{}\" font-weight=\"{weight}\">{words}</text>",
        y - shift
    )
    .expect("a String takes all");
}
