//! What is not yet at rest, said plainly: strangers, silence, views that differ, replicas that catch up.

use shardwright_topology::{Health, NodeId, NodeView, Replication, Role, Server};

use crate::draft::Draft;
use crate::evidence::{copies_elsewhere, in_sync};
use crate::surplus::surplus;
use crate::{Action, Authority, RepeatedCopy, Request, Shape, Standing, Waiting, safety};

impl Draft<'_> {
    /// Whether a step that restores coverage is among the steps: then redundancy waits for the next pass.
    pub(crate) fn coverage_at_work(&self) -> bool {
        self.steps.iter().any(|s| match s.action {
            Action::Failover { .. }
            | Action::Takeover { .. }
            | Action::AddSlots { .. }
            | Action::AssignSlot { .. }
            | Action::SetConfigEpoch { .. }
            | Action::RecordFormed => true,
            Action::StartServer { .. }
            | Action::StartAfresh { .. }
            | Action::Recreate { .. }
            | Action::Replace { .. }
            | Action::RemoveServer { .. }
            | Action::Meet { .. }
            | Action::Replicate { .. }
            | Action::Switchover { .. }
            | Action::Forget { .. }
            | Action::Reset { .. }
            | Action::CloseSlot { .. }
            | Action::CopyFunctions { .. }
            | Action::SetElectable { .. }
            | Action::RaiseEpoch { .. }
            | Action::MoveKeys { .. }
            | Action::MoveSlots { .. } => false,
        })
    }
}

/// Servers that do not belong here, and directories that were copied.
pub(crate) fn strangers(p: &mut Draft<'_>) {
    for (server, standing) in p.standings.clone() {
        if let Standing::Foreign(what) = standing {
            p.wait(Waiting::Foreign { server, what });
        }
    }
    for duplicate in p.o.duplicates() {
        p.wait(Waiting::DuplicateId(Box::new(duplicate.clone())));
    }
}

/// A number of shards that differs from the declared one, where that is not for the planner to change: elsewhere
/// [`super::shape`] says what it waits for.
pub(crate) fn shape(p: &mut Draft<'_>) {
    let have = u16::try_from(p.o.voters().count()).unwrap_or(u16::MAX);
    if let Shape::Declared { shards: want, .. } = p.d.shape
        && have != want
        && have > 0
        && p.d.authority == Authority::Guest
    {
        p.wait(Waiting::ShardsDiffer { have, want });
    }
}

/// The node of a server that is not heard, where that was reached at another address than the one it announces.
fn heard_elsewhere(p: &Draft<'_>, server: &Server) -> Option<NodeId> {
    let guest = p.d.authority == Authority::Guest;
    let node = server.recorded_id.filter(|_| guest)?;
    p.o.view_of(node).map(|view| view.id)
}

/// Everything else that is not at rest.
pub(crate) fn the_rest(p: &mut Draft<'_>) {
    let surplus = surplus(p.d, p.o);
    for server in p.o.servers().values() {
        let stranger = matches!(p.standings.get(&server.name), Some(Standing::Foreign(_)));
        // Of one that is too many and was told to end it is said that it is being stopped.
        let ends = server.leaving && surplus.iter().any(|s| s.name == server.name);
        if let Some(why) = unknown(&server.view).filter(|_| !stranger && !ends) {
            let (server, heard) = (server.name.clone(), heard_elsewhere(p, server));
            p.wait(match heard {
                Some(node) => Waiting::AnnouncedUnheard { server, node, why },
                None => Waiting::ServerUnheard { server, why },
            });
        }
    }
    let forming = matches!(p.d.request, Some(Request::Form { .. })) || p.o.formed.is_some();
    views_differ(p);
    forgotten(p);
    let views: Vec<&NodeView> =
        p.o.views()
            .map(|(_, v)| v)
            .filter(|v| p.is_ours(v.id))
            .collect();
    for view in views {
        if !view.cluster.state_ok && (forming || view.peers().next().is_some()) {
            p.wait(Waiting::StateNotOk { node: view.id });
        }
        catch_up(p, view);
        suspicion(p, view);
    }
}

/// Whoever was forgotten is dropped again by those who hear of the ban: since Redis 7.2 it is told with every ping for a
/// minute. Everyone hears from everyone within half of the node-timeout.
fn forgotten(p: &mut Draft<'_>) {
    let heard_ms = p.l.node_timeout_ms / 2 + 1_000;
    let lately = p.o.forgotten.iter();
    let lately = lately.filter(|(_, at)| p.now.since_ms(**at) < heard_ms);
    let nodes: Vec<NodeId> = lately
        .map(|(node, _)| *node)
        .filter(|id| p.is_ours(*id))
        .collect();
    for node in nodes {
        p.wait(Waiting::Forgotten { node });
    }
}

/// One wait for each node that differs tells enough: a thousand nodes that meet differ a million times.
fn views_differ(p: &mut Draft<'_>) {
    let mut last = None;
    for g in p.o.disagreements() {
        if last != Some(g.speaker) && p.is_ours(g.speaker) && p.is_ours(g.about) {
            last = Some(g.speaker);
            p.wait(Waiting::Views {
                speaker: g.speaker,
                about: g.about,
            });
        }
    }
}

fn unknown<T>(seen: &shardwright_topology::Seen<T>) -> Option<shardwright_topology::Why> {
    match seen {
        shardwright_topology::Seen::Known(_) => None,
        shardwright_topology::Seen::Unknown(why) => Some(why.clone()),
    }
}

/// A replica without a full copy or without its link. What it lacks is known once its primary was heard.
fn catch_up(p: &mut Draft<'_>, view: &NodeView) {
    let Some(own) = view.own().filter(|own| own.role == Role::Replica) else {
        return;
    };
    let Replication::Replica {
        syncing, offset, ..
    } = &view.server.replication
    else {
        return;
    };
    if copies_elsewhere(p.o, view.id).is_some() {
        return;
    }
    if let Some(primary) = own
        .primary
        .filter(|id| !safety::can_copy(p.o, view.id, *id))
    {
        let node = view.id;
        return p.wait(Waiting::CannotCopy { node, primary });
    }
    if in_sync(p.o, view) {
        return;
    }
    if let Some(again) = RepeatedCopy::of(p.o, view.id) {
        return p.wait(Waiting::RepeatedCopy(again));
    }
    let end =
        own.primary
            .and_then(|id| p.o.view_of(id))
            .and_then(|v| match &v.server.replication {
                Replication::Primary { offset, .. } => Some(*offset),
                Replication::Replica { .. } => None,
            });
    let lag_bytes = end
        .filter(|_| !*syncing && *offset > 1)
        .map(|end| end.saturating_sub(*offset));
    p.wait(Waiting::ReplicaCatchUp {
        node: view.id,
        lag_bytes,
    });
}

/// A live node of ours that this one suspects: its answer is under way.
fn suspicion(p: &mut Draft<'_>, view: &NodeView) {
    let suspect = view
        .peers()
        .find(|r| r.health == Health::Suspected && p.is_ours(r.id))
        .map(|r| r.id);
    if let Some(about) = suspect {
        p.wait(Waiting::Views {
            speaker: view.id,
            about,
        });
    }
}
