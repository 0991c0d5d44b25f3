//! The engine's own move of slots (Valkey 9 and later): starting, watching and cancelling it.

use redis::Value;
use shardwright_topology::{NodeId, SlotRange, SlotSet};

use crate::client::Request;
use crate::{Client, Error};

/// A move of slots that a server knows of, as one end of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotMigration {
    /// The name of the job, the same at both ends.
    pub name: String,
    /// Which end this server is.
    pub way: Way,
    /// What moves.
    pub slots: SlotSet,
    /// Who gives; none where this server does not say it. One that became a primary while it was a replica of an end
    /// knows of its primary's job by the slots only.
    pub from: Option<NodeId>,
    /// Who takes; none as well.
    pub to: Option<NodeId>,
    /// How far it is.
    pub state: MigrationState,
    /// Why it failed, in the server's words; else empty.
    pub message: String,
}

/// Which end of a move a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It gives the slots.
    Export,
    /// It takes the slots.
    Import,
}

/// How far a move of slots is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MigrationState {
    /// It goes on; the text is the server's name for the step.
    Running(String),
    /// This end has done its part.
    Success,
    /// It ended, and the slots stay where they were.
    Failed,
    /// Somebody cancelled it, as this end sees it. The other end may have taken the slots just
    /// before: who owns them is to be asked there.
    Cancelled,
}

impl Client {
    /// Starts moving whole slots from this server to another one that it knows. `Ok` means
    /// that it has begun: all slots change their owner together at its end, or none does.
    pub async fn migrate_slots(&self, slots: &SlotSet, to: NodeId) -> Result<(), Error> {
        let mut request = Request::new("CLUSTER MIGRATESLOTS").arg("SLOTSRANGE");
        for range in slots.ranges() {
            request = request
                .arg(range.first().number())
                .arg(range.last().number());
        }
        self.done(request.arg("NODE").id(to)).await
    }

    /// The moves that this server takes part in, and those that ended lately.
    pub async fn slot_migrations(&self) -> Result<Vec<SlotMigration>, Error> {
        let value = self.ask(Request::new(LIST)).await?;
        let Value::Array(jobs) = value else {
            return Err(self.asked(LIST).strange(format!("{value:?}")));
        };
        let jobs = jobs.into_iter().map(|job| self.read_job(job));
        jobs.collect()
    }

    /// Cancels every move that this server takes part in. True where there was one.
    pub async fn cancel_slot_migrations(&self) -> Result<bool, Error> {
        let request = Request::new("CLUSTER CANCELSLOTMIGRATIONS");
        match self.done(request).await {
            Ok(()) => Ok(true),
            Err(Error::Server { message, .. }) if message.starts_with("No migrations") => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn read_job(&self, job: Value) -> Result<SlotMigration, Error> {
        let fields = match job {
            Value::Array(words) => words,
            Value::Map(pairs) => pairs.into_iter().flat_map(|(k, v)| [k, v]).collect(),
            other => return Err(self.asked(LIST).strange(format!("{other:?}"))),
        };
        let mut texts = Vec::new();
        for field in fields {
            texts.push(match field {
                Value::Int(number) => number.to_string(),
                text => self.utf8(LIST, text)?,
            });
        }
        read(&texts).map_err(|missing| {
            let what = format!("{missing} is missing or unknown in {texts:?}");
            self.asked(LIST).strange(what)
        })
    }
}

const LIST: &str = "CLUSTER GETSLOTMIGRATIONS";

/// The job of these names and values, or the name of what cannot be understood.
fn read(texts: &[String]) -> Result<SlotMigration, &'static str> {
    let field = |name: &'static str| {
        let mut pairs = texts.chunks_exact(2);
        let pair = pairs.find(|pair| pair[0] == name);
        pair.map(|pair| pair[1].as_str()).ok_or(name)
    };
    let node = |name| match field(name) {
        Ok(id) => NodeId::parse(id.as_bytes()).map(Some).map_err(|_| name),
        Err(_) => Ok(None),
    };
    Ok(SlotMigration {
        name: field("name")?.to_owned(),
        way: match field("operation")? {
            "EXPORT" => Way::Export,
            "IMPORT" => Way::Import,
            _ => return Err("operation"),
        },
        slots: ranges(field("slot_ranges")?).ok_or("slot_ranges")?,
        from: node("source_node")?,
        to: node("target_node")?,
        state: match field("state")? {
            "success" => MigrationState::Success,
            "failed" => MigrationState::Failed,
            "cancelled" => MigrationState::Cancelled,
            other => MigrationState::Running(other.to_owned()),
        },
        message: field("message")?.to_owned(),
    })
}

/// `0-100 200-300 7-7`.
fn ranges(text: &str) -> Option<SlotSet> {
    let mut slots = SlotSet::empty();
    for range in text.split_whitespace() {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let range = SlotRange::new(first.parse().ok()?, last.parse().ok()?).ok()?;
        slots.insert(range);
    }
    Some(slots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_read_as_valkey_writes_it() {
        let id = "0dc16bc0f9e56bdb3f34fef009cd2f2c959187a4";
        let other = "3356ee9da1bfc445ddd3aa5d3d2fe3c6b55dd3d0";
        let words = [
            "name",
            "49b153ab179ae84c60d8e8a5015975265bc4bfa9",
            "operation",
            "EXPORT",
            "slot_ranges",
            "0-100 200-300",
            "target_node",
            other,
            "source_node",
            id,
            "create_time",
            "1795655418",
            "state",
            "waiting-to-snapshot",
            "message",
            "",
        ];
        let words = words.map(str::to_owned);
        let job = read(&words).expect("it is complete");
        assert_eq!(job.slots.to_string(), "0-100,200-300");
        assert_eq!(
            [job.from, job.to].map(|id| id.map(|id| id.to_string())),
            [Some(id.into()), Some(other.into())]
        );
        let running = MigrationState::Running("waiting-to-snapshot".into());
        assert_eq!((job.way, job.state), (Way::Export, running));
        assert_eq!(read(&words[2..]), Err("name"));
        let mut heir = words.clone();
        heir[9] = "x".to_owned();
        assert_eq!(read(&heir), Err("source_node"));
        let heir = [&words[..6], &words[10..]].concat();
        let ends = read(&heir).map(|job| (job.from, job.to));
        assert_eq!(ends, Ok((None, None)), "as an heir of an end says it");
    }
}
