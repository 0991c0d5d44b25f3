//! The target's memory limit.

use std::time::{Duration, Instant};

use super::MoveError;
use crate::{Client, Error};

/// What a target reads and keeps in flight beside the keys themselves, in bytes: a chunk of what one connection sends,
/// in and out.
const IN_FLIGHT: u64 = 64 * 1024;

/// How long what a target said of its memory is relied on: clients fill it meanwhile, and it may begin to delete keys.
const RELIED_ON: Duration = Duration::from_millis(100);
/// Which part of the room that was left is used before the target is asked again, as one part of so many.
const USED_PART: u64 = 4;

/// What a target says of its memory.
struct Told {
    /// In bytes, of what counts for the limit.
    used: u64,
    /// In bytes; 0 is none.
    limit: u64,
    evicts: bool,
    /// How many keys it has deleted for lack of memory since it began.
    evicted: u64,
}

/// Sees to it that a target does not come to its memory limit by what is moved there.
#[derive(Debug)]
pub struct Room {
    /// Whether that is wanted.
    keeps_limit: bool,
    /// How many keys the target had deleted when it was first asked.
    evicted_before: Option<u64>,
    last: Option<Last>,
}

/// What may be sent without asking again.
#[derive(Debug)]
struct Last {
    asked: Instant,
    /// In bytes.
    left: u64,
}

impl Room {
    /// Of a target whose limit is to be kept, or is not.
    pub fn new(keeps_limit: bool) -> Self {
        Self {
            keeps_limit,
            evicted_before: None,
            last: None,
        }
    }

    /// Whether so many bytes more fit. `greatest` of them are one key, which is there twice while it is taken in. The
    /// target is asked again after 100 ms, when a quarter of the room it had is used, and where nothing more is to come.
    ///
    /// # Errors
    /// [`MoveError::NoRoom`] or [`MoveError::Evicts`], or what came of asking.
    pub async fn require(
        &mut self,
        target: &Client,
        bytes: u64,
        greatest: u64,
    ) -> Result<(), MoveError> {
        if !self.keeps_limit {
            return Ok(());
        }
        let needs = if bytes > 0 {
            bytes.saturating_add(greatest).saturating_add(IN_FLIGHT)
        } else {
            0
        };
        if let Some(last) = &mut self.last
            && needs > 0
            && needs <= last.left
            && last.asked.elapsed() < RELIED_ON
        {
            last.left -= needs;
            return Ok(());
        }
        self.last = None;
        let asked = Instant::now();
        let told = ask(target).await?;
        let target = || target.endpoint().clone();
        // A server that was started again counts anew.
        let before = *self.evicted_before.get_or_insert(told.evicted);
        if told.evicted > before {
            let (target, keys) = (target(), told.evicted - before);
            return Err(MoveError::Evicts { target, keys });
        }
        if told.limit > 0 && told.used.saturating_add(needs) > told.limit {
            return Err(MoveError::NoRoom {
                target: target(),
                used: told.used,
                needs,
                limit: told.limit,
                evicts: told.evicts,
            });
        }
        let room = match told.limit {
            0 => u64::MAX,
            limit => limit - told.used,
        };
        let left = (room / USED_PART).saturating_sub(needs);
        self.last = Some(Last { asked, left });
        Ok(())
    }
}

async fn ask(target: &Client) -> Result<Told, Error> {
    let info = target.info_of(&["memory", "stats"]).await?;
    let info = String::from_utf8_lossy(&info);
    let field = |name: &'static str| {
        let mut fields = info
            .lines()
            .filter_map(|line| line.trim_end().split_once(':'));
        let value = fields.find(|(key, _)| *key == name).map(|(_, value)| value);
        value.ok_or_else(|| target.asked("INFO").strange(format!("no {name}")))
    };
    let number = |name| {
        let value = field(name)?;
        value
            .parse::<u64>()
            .map_err(|_| target.asked("INFO").strange(format!("{name}:{value}")))
    };
    // Buffers of replicas and of the file do not count for the limit.
    let apart = match field("mem_not_counted_for_evict") {
        Ok(_) => number("mem_not_counted_for_evict")?,
        Err(_) => 0,
    };
    Ok(Told {
        used: number("used_memory")?.saturating_sub(apart),
        limit: number("maxmemory")?,
        evicts: field("maxmemory_policy")? != "noeviction",
        evicted: number("evicted_keys")?,
    })
}
