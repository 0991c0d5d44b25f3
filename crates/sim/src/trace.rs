//! What happened: a hash always, the text on demand.

use std::fmt::{self, Write};

/// The record of a history.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    hash: Fnv,
    lines: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug)]
struct Fnv(u64);

impl Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // FNV-1a, 64 bits.
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}

impl Trace {
    /// A record, with its text if `keep`.
    pub(crate) fn new(keep: bool) -> Self {
        Self {
            hash: Fnv(0xcbf2_9ce4_8422_2325),
            lines: keep.then(Vec::new),
        }
    }

    /// Notes that something happened.
    pub(crate) fn note(&mut self, now: u64, what: fmt::Arguments<'_>) {
        self.hash
            .write_fmt(format_args!("{now} {what}\n"))
            .expect("a hash takes any text");
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>9.3} s  {what}", seconds(now)));
        }
    }

    /// The hash of all that happened.
    pub(crate) fn hash(&self) -> u64 {
        self.hash.0
    }

    /// The text, if it was kept.
    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.into_iter().flatten().collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a history lasts minutes")]
fn seconds(now: u64) -> f64 {
    now.saturating_sub(1_000_000) as f64 / 1000.0
}
