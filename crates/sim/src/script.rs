//! Scripts: small stories that run on the model and, unchanged, on real servers, and must end alike.
//!
//! One step a line; `#` begins a comment. Whatever breaks, breaks while nobody looks; `settle` lets the planner mend.
//!
//! ```text
//! form 3 1 [hosts=a,b,c] [aof=no] [policy=KeepEveryWrite]   shards and replicas; servers are n0, n1, …
//! write N                  N keys over all slots, acknowledged, and at the replicas too where there are any
//! kill NAME|all            the process is gone
//! freeze NAME, thaw NAME   the process stands still, and goes on
//! lose-table NAME          the process is gone, and its table of nodes too, but not its data
//! wipe NAME                the process is gone, and its directory is empty
//! move all                 all processes are gone, and all addresses are others from now on
//! accept data-loss         a person agrees
//! failover NAME            a person asks for this replica as the primary, in sync
//! open SLOT FROM TO MOVED  a move of this slot was broken off; MOVED: none, half or all of its keys
//! forget NAME              everyone forgets this node, and it forgets everyone
//! follow NAME OTHER        this replica is made to follow that node
//! drop SLOT                its owner no longer claims this slot
//! settle                   passes until there is nothing to do, or a person has to decide
//! end [shape]              how it is now; `shape` counts replicas instead of naming anyone
//! ```

use shardwright_topology::{Member, Observed, Slot, Source};

/// A world in which a script can happen: the model, or real servers.
///
/// Every error is a text that says what could not be done.
pub trait World {
    /// Makes a cluster, and lets it settle.
    fn form(&mut self, form: &Form) -> Result<(), String>;
    /// Writes so many keys, waits until replicas have them, and remembers them.
    fn write(&mut self, keys: u32) -> Result<(), String>;
    /// Ends a process at once.
    fn kill(&mut self, name: &str) -> Result<(), String>;
    /// Makes a process stand still.
    fn freeze(&mut self, name: &str) -> Result<(), String>;
    /// Lets a process go on.
    fn thaw(&mut self, name: &str) -> Result<(), String>;
    /// Ends a process and takes its table of nodes away.
    fn lose_table(&mut self, name: &str) -> Result<(), String>;
    /// Ends a process and empties its directory.
    fn wipe(&mut self, name: &str) -> Result<(), String>;
    /// Ends all processes; all addresses are others from now on.
    fn move_all(&mut self) -> Result<(), String>;
    /// A person agrees to lose what can't be had any more.
    fn accept_data_loss(&mut self) -> Result<(), String>;
    /// A person asks for this replica as the primary.
    fn failover(&mut self, name: &str) -> Result<(), String>;
    /// Breaks off a move of a slot: it is open at both ends, and so many of its keys have moved. Two keys are
    /// put into the slot first, and remembered.
    fn open_slot(&mut self, slot: Slot, from: &str, to: &str, moved: Moved) -> Result<(), String>;
    /// Makes everyone forget a node, and it everyone.
    fn forget(&mut self, name: &str) -> Result<(), String>;
    /// Makes a replica follow a node.
    fn follow(&mut self, name: &str, other: &str) -> Result<(), String>;
    /// Makes the owner of a slot give up its claim.
    fn drop_slot(&mut self, slot: Slot) -> Result<(), String>;
    /// Lets the planner work until there is nothing to do, or only a person can go on. Returns what waits for a
    /// person; an error if it comes to neither within the world's bound.
    fn settle(&mut self) -> Result<Vec<shardwright_planner::Waiting>, String>;
    /// One look at everything; servers are named n0, n1, ….
    fn observe(&mut self) -> Result<Observed, String>;
    /// How many keys were written, and how many of them are not there.
    fn keys(&mut self) -> Result<(u64, u64), String>;
}

/// What is to be formed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Form {
    /// Primaries.
    pub shards: u16,
    /// Replicas of each.
    pub replicas: u16,
    /// Hosts, given to the servers in turn; none: not known.
    pub hosts: Vec<String>,
    /// Whether servers keep an append-only file. Without, they keep nothing.
    pub aof: bool,
    /// Whether a restart with its file comes before a promotion.
    pub keep_every_write: bool,
}

/// How much of a slot had moved when the move was broken off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moved {
    /// Nothing.
    None,
    /// Some of its keys.
    Half,
    /// All its keys.
    All,
}

/// Runs a script and tells its ends: what waits for a person after each `settle`, and each `end`.
///
/// # Errors
/// A text with the line's number, for a line that makes no sense or a step that could not be done.
pub fn run(script: &str, world: &mut dyn World) -> Result<String, String> {
    let mut out = String::new();
    for (number, line) in script.lines().enumerate() {
        let line = line.split('#').next().unwrap_or(line).trim();
        if line.is_empty() {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let told = step(&words, world).map_err(|e| format!("line {} ({line}): {e}", number + 1))?;
        out.push_str(&told);
    }
    Ok(out)
}

fn step(words: &[&str], world: &mut dyn World) -> Result<String, String> {
    let mut told = String::new();
    match words {
        ["form", shards, replicas, options @ ..] => {
            world.form(&form(shards, replicas, options)?)?;
        }
        ["write", keys] => world.write(number(keys)?)?,
        ["kill", "all"] => {
            let names: Vec<String> = world
                .observe()?
                .servers()
                .keys()
                .map(|n| n.0.clone())
                .collect();
            for name in names {
                world.kill(&name)?;
            }
        }
        ["kill", name] => world.kill(name)?,
        ["freeze", name] => world.freeze(name)?,
        ["thaw", name] => world.thaw(name)?,
        ["lose-table", name] => world.lose_table(name)?,
        ["wipe", name] => world.wipe(name)?,
        ["move", "all"] => world.move_all()?,
        ["accept", "data-loss"] => world.accept_data_loss()?,
        ["failover", name] => world.failover(name)?,
        ["open", at, from, to, moved] => {
            let moved = match *moved {
                "none" => Moved::None,
                "half" => Moved::Half,
                "all" => Moved::All,
                _ => return Err("moved is none, half or all".to_owned()),
            };
            world.open_slot(slot(at)?, from, to, moved)?;
        }
        ["forget", name] => world.forget(name)?,
        ["follow", name, other] => world.follow(name, other)?,
        ["drop", at] => world.drop_slot(slot(at)?)?,
        ["settle"] => told = settled(world)?,
        ["end"] => told = end(world, true)?,
        ["end", "shape"] => told = end(world, false)?,
        _ => return Err("no such step".to_owned()),
    }
    Ok(told)
}

fn form(shards: &str, replicas: &str, options: &[&str]) -> Result<Form, String> {
    let mut form = Form {
        shards: number(shards)?,
        replicas: number(replicas)?,
        hosts: Vec::new(),
        aof: true,
        keep_every_write: false,
    };
    for option in options {
        match option.split_once('=') {
            Some(("hosts", hosts)) => form.hosts = hosts.split(',').map(str::to_owned).collect(),
            Some(("aof", "no")) => form.aof = false,
            Some(("policy", "KeepEveryWrite")) => form.keep_every_write = true,
            _ => return Err(format!("no such option: {option}")),
        }
    }
    Ok(form)
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is no number that fits"))
}

fn slot(text: &str) -> Result<Slot, String> {
    Slot::new(number(text)?).map_err(|e| e.to_string())
}

fn settled(world: &mut dyn World) -> Result<String, String> {
    let waits = world.settle()?;
    if waits.is_empty() {
        return Ok("settled\n".to_owned());
    }
    let observed = world.observe()?;
    let mut out = "a person has to decide:\n".to_owned();
    let mut told: Vec<String> = waits
        .iter()
        .map(|wait| format!("  {}", named(&wait.to_string(), &observed)))
        .collect();
    // By name: the order of the waits is that of ids, which differ from run to run.
    told.sort();
    for wait in told {
        line(&mut out, &wait);
    }
    Ok(out)
}

/// How a cluster is now: each shard with its primary and replicas, what belongs to none, and the keys.
fn end(world: &mut dyn World, by_name: bool) -> Result<String, String> {
    let o = world.observe()?;
    let mut out = String::new();
    let mut primaries: Vec<&Member> = o.voters().collect();
    primaries.sort_by_key(|m| m.slots.ranges().first().copied());
    for primary in primaries {
        let mut replicas: Vec<String> = o.replicas_of(primary.id).map(|m| name_of(&o, m)).collect();
        replicas.sort();
        if by_name {
            let of = if replicas.is_empty() {
                "nobody".to_owned()
            } else {
                replicas.join(", ")
            };
            line(
                &mut out,
                &format!(
                    "{}: {}, copied by {of}",
                    primary.slots.listed(),
                    name_of(&o, primary)
                ),
            );
        } else {
            line(
                &mut out,
                &format!("{}: {} replica(s)", primary.slots.listed(), replicas.len()),
            );
        }
    }
    let uncovered = o.uncovered();
    if !uncovered.is_empty() {
        line(&mut out, &format!("nobody owns {}", uncovered.listed()));
    }
    let silent = o
        .members()
        .values()
        .filter(|m| m.source == Source::Others)
        .count()
        + o.servers()
            .values()
            .filter(|s| s.view.known().is_none())
            .count();
    if silent > 0 {
        line(&mut out, "not everyone is heard");
    }
    let (written, lost) = world.keys()?;
    line(&mut out, &format!("{written} keys written, {lost} lost"));
    Ok(out)
}

fn name_of(o: &Observed, member: &Member) -> String {
    let silent = if member.source == Source::Others {
        " (silent)"
    } else {
        ""
    };
    let server = o.server_of(member.id).map_or("?", |s| s.name.0.as_str());
    format!("{server}{silent}")
}

/// The text with the name of its server instead of every short node id: ids differ from run to run.
pub fn named(text: &str, o: &Observed) -> String {
    let mut out = text.to_owned();
    for member in o.members().values() {
        if let Some(server) = &member.server {
            out = out.replace(&member.id.short(), &server.0);
        }
    }
    out
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::form;

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(form("3", "x", &[]).is_err());
        assert!(form("3", "1", &["aof=perhaps"]).is_err());
        let form = form("3", "1", &["hosts=a,b", "aof=no"]).expect("it is well formed");
        assert_eq!((form.hosts.len(), form.aof), (2, false));
    }
}
