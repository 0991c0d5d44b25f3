//! What a person may do about a wait that only a person ends.

use std::borrow::Cow;

use shardwright_engine::{Close, Error, Unreachable};
use shardwright_planner::safety::NoMove;
use shardwright_planner::{Consent, Foreign, NoDeath, Waiting, take_writes_again};
use shardwright_topology::{Observed, Why};

/// How a server is made empty, where that is said to be right.
macro_rules! emptied {
    () => {
        "empty it (FLUSHALL, then CLUSTER RESET HARD)"
    };
}

/// Of two processes with one node id.
const STOP_THE_COPY: &str = "; stop the copy, and remove its nodes.conf before it starts again";

/// Of a server whose directory can't be set aside; where it is not known what repairs it, one of the next.
const NOT_ALL_SERVED: &str = "; not all slots are served without it: bring the others back first";
const GO_ON_WITH_A_REPLICA: &str = ", go on with what a replica of it has (--accept-data-loss)";
const RESTORE_TABLE: &str =
    "; not all slots are served without it: bring the others back first, or restore its nodes.conf";
const RESTORE_TABLE_OR_GO_ON: &str = "; not all slots are served without it: bring the others back first, restore its nodes.conf, or go on with what a \
     replica of it has: --accept-data-loss";
const RESTORE_DATA: &str =
    "; not all slots are served without it: bring the others back first, or restore its data";
const RESTORE_DATA_OR_GO_ON: &str = "; not all slots are served without it: bring the others back first, restore its data, or go on with what a \
     replica of it has: --accept-data-loss";

/// What may be done, as the end of a sentence; nothing where the wait says it itself. What was consented to already is
/// not offered again.
pub(crate) fn hint(wait: &Waiting, consent: Consent, o: &Observed) -> Cow<'static, str> {
    let with_command = let_write(wait, o).or_else(|| repair(wait, consent));
    match with_command {
        Some(command) => command.into(),
        None => hint_alone(wait, consent).into(),
    }
}

/// What may be done about a server that can't load its data, where its runtime knows a way.
fn repair(wait: &Waiting, consent: Consent) -> Option<String> {
    let Waiting::DataRefused { failure, .. } = wait else {
        return None;
    };
    let remedy = failure.as_ref()?.remedy.as_ref()?;
    let go_on = if consent.lose_data {
        ""
    } else {
        GO_ON_WITH_A_REPLICA
    };
    Some(format!("{NOT_ALL_SERVED}{go_on}, or {remedy}"))
}

/// What lets an end of a move take writes again.
fn let_write(wait: &Waiting, o: &Observed) -> Option<String> {
    let (Waiting::Moves { why, .. }
    | Waiting::OpenSlotHeld { why, .. }
    | Waiting::StrayKeys { why, .. }) = wait
    else {
        return None;
    };
    let refuses = |why: &NoMove| match why {
        NoMove::RefusesWrites {
            node,
            why,
            ends_by_itself: false,
        } => Some((*node, *why)),
        _ => None,
    };
    let (node, why) = why.iter().find_map(refuses)?;
    let address = o.server_of(node)?.address.known()?;
    Some(format!("; {}", take_writes_again(address, why)))
}

/// The part of it that needs no address.
fn hint_alone(wait: &Waiting, consent: Consent) -> &'static str {
    let or = |without, with| if consent.lose_data { without } else { with };
    match wait {
        Waiting::DataLost
        | Waiting::ShardLost { .. }
        | Waiting::Uncovered { .. }
        | Waiting::StartHeld { .. } => or(
            "; restore its data",
            "; restore its data, or go on without: --accept-data-loss",
        ),
        Waiting::AnnouncedUnheard { .. }
        | Waiting::DeathUnproved {
            why: NoDeath::Linked { .. },
            ..
        } => {
            "; open that address for clients, or set what it announces: CONFIG SET cluster-announce-port"
        }
        Waiting::NoCandidate { .. } | Waiting::DeathUnproved { .. } => or(
            "; start it again",
            "; start it again, or if it is gone for good: --accept-data-loss",
        ),
        Waiting::KeysUnclaimed { .. } => or(
            "",
            "; let the node with most keys own each slot, without deleting any at the others: --accept-data-loss",
        ),
        Waiting::CopiesElsewhere { drops: Some(_), .. } => or(
            "",
            "; they may be the last: make it the primary (CLUSTER FAILOVER TAKEOVER, sent to it), or drop them: --accept-data-loss",
        ),
        Waiting::IdLost { .. } => {
            "; empty no server: shardwright check names what takes its place, or takes it in"
        }
        Waiting::DirectoryUnread { .. } => "; put its own directory back, or move this one away",
        Waiting::TableRefused { .. } => or(RESTORE_TABLE, RESTORE_TABLE_OR_GO_ON),
        Waiting::DataRefused { .. } => or(RESTORE_DATA, RESTORE_DATA_OR_GO_ON),
        Waiting::Moves { why, .. } => of_moves(
            why,
            "; raise its maxmemory, move less, or do it regardless: --force",
        ),
        Waiting::OpenSlotHeld { why, .. } | Waiting::StrayKeys { why, .. } => of_moves(
            why,
            "; raise its maxmemory (CONFIG SET maxmemory), then run this again",
        ),
        Waiting::Foreign { what, .. } => of_foreign(what, consent),
        Waiting::CannotCopy { .. } => {
            "; start it with its primary's engine and version or a newer one, or take it out"
        }
        Waiting::DuplicateId(_) => STOP_THE_COPY,
        Waiting::CopiesElsewhere { drops: None, .. }
        | Waiting::Contested { .. }
        | Waiting::MajorityLost(_)
        | Waiting::KeysUncounted { .. }
        | Waiting::ServersMissing { .. }
        | Waiting::ServerUnheard { .. }
        | Waiting::Stranded { .. }
        | Waiting::PlaceFollowed { .. }
        | Waiting::PrimarySilent { .. }
        | Waiting::SiblingUnheard { .. }
        | Waiting::StartsAgain { .. }
        | Waiting::RoleNotSeen { .. }
        | Waiting::Promotion { .. }
        | Waiting::RestartGrace { .. }
        | Waiting::Drains { .. }
        | Waiting::Views { .. }
        | Waiting::Forgotten { .. }
        | Waiting::StateNotOk { .. }
        | Waiting::ReplicaCatchUp { .. }
        | Waiting::RepeatedCopy(_)
        | Waiting::ReplicaMissing { .. }
        | Waiting::Lend { .. }
        | Waiting::Spread { .. }
        | Waiting::OpenSlot { .. }
        | Waiting::ShardsDiffer { .. }
        | Waiting::NodesMissing { .. }
        | Waiting::Surplus { .. }
        | Waiting::Request { .. } => "",
    }
}

/// What may be done about a server that does not belong here.
fn of_foreign(what: &Foreign, consent: Consent) -> &'static str {
    match what {
        Foreign::SameSlots { .. } if consent.lose_data => concat!(
            "; where check says that every slot is served and nobody needs its keys, ",
            emptied!()
        ),
        Foreign::SameSlots { .. } => concat!(
            "; whose data counts, a person decides: keep a copy of both directories, then of the other server ",
            emptied!(),
            ", or let the one with most keys count: --accept-data-loss"
        ),
        Foreign::HoldsKeys { .. } | Foreign::OwnsSlots { .. } => concat!(
            "; take it away, or, where check says that every slot is served and nobody needs its keys, ",
            emptied!()
        ),
        Foreign::KnowsOthers { .. } | Foreign::NotAsked => concat!(
            "; take it away, or, where check says that every slot is served, ",
            emptied!()
        ),
        Foreign::Returned { .. } => "",
    }
}

/// What may be done about the first reason that only a person ends; `no_room` is for a receiver without enough memory.
fn of_moves(why: &[NoMove], no_room: &'static str) -> &'static str {
    let mut hints = why.iter().filter_map(|why| match why {
        NoMove::Paused => Some("; let them go on: shardwright resume"),
        NoMove::Memory { .. } | NoMove::RoomUnknown { .. } | NoMove::SizeUnknown { .. } => {
            Some(no_room)
        }
        NoMove::CannotRead { .. } => {
            Some("; run the receiver with its source's engine and version, or a newer one")
        }
        NoMove::FunctionsOnlyHere { .. } => Some(
            "; load them at the others (shardwright check names the commands), or delete them: FUNCTION DELETE NAME",
        ),
        NoMove::FunctionsUnknown {
            why: Why::Denied(_),
            ..
        } => Some(
            "; let the user that shardwright logs in as read and load them: ACL SETUSER USER '+function|list' '+function|load'",
        ),
        NoMove::DuplicateId { .. }
        | NoMove::NotItsTurn
        | NoMove::SlotsUnserved
        | NoMove::Contested { .. }
        | NoMove::SlotOpen { .. }
        | NoMove::ViewsDiffer { .. }
        | NoMove::Unheard { .. }
        | NoMove::NotInSync { .. }
        | NoMove::EndUnheard { .. }
        | NoMove::NotTheOwner { .. }
        | NoMove::MayBePassed { .. }
        | NoMove::NotAPrimary { .. }
        | NoMove::NotServing { .. }
        | NoMove::RefusesWrites { .. }
        | NoMove::ReplicasLack { .. }
        | NoMove::FunctionsLack { .. }
        | NoMove::FunctionsUnknown { .. }
        | NoMove::StrayKeys { .. }
        | NoMove::Leaving { .. } => None,
    });
    hints.next().unwrap_or("")
}

/// What to call the command with instead, where a server was not got into.
pub(crate) fn login(error: &anyhow::Error) -> Option<&'static str> {
    let refused = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Error>())?;
    match refused {
        Error::Auth { .. } => Some(
            "give the password by --password-file FILE, --askpass or SHARDWRIGHT_PASSWORD (REDISCLI_AUTH), and the user by \
             --user NAME; of a cluster of this machine the passwords are known: name it local:NAME",
        ),
        Error::Closed {
            close: Close::Ended | Close::Reset,
            ..
        } => Some("where it is a TLS port: --tls, with --cacert FILE"),
        Error::Unreachable {
            why: Unreachable::NoHandshake,
            ..
        } => Some("where it is a port without TLS: leave out --tls"),
        _ => None,
    }
}
