//! Carrying out a plan's steps: first what each assumed is read again, then the one command is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use futures_util::future::join_all;
use shardwright_engine::{Client, Error, Failover, Reset, SetSlot};
use shardwright_planner::{Action, Plan, Precondition, Step};
use shardwright_topology::{
    Address, NodeId, NodeView, Observed, OpenSlot, Role, Seen, ServerName, Slot,
};

use crate::slot_keys::{KeyAt, KeysToMove, named};
use crate::{Links, RuntimeError, counts, functions, hear};

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The server refused or did not answer.
    #[error("the server did not do it")]
    Server(#[from] Error),
    /// The runtime could not.
    #[error("the runtime could not do it")]
    Runtime(#[from] RuntimeError),
    /// What the step assumed is no longer so: it is planned anew.
    #[error("the world moved: {0}")]
    Moved(String),
    /// Slots could not be moved.
    #[error("slots could not be moved")]
    Move(#[source] shardwright_engine::movers::MoveError),
    /// Keys of a slot are at two nodes, and nothing proves whose values are newer: the source of a move was failed over
    /// in the middle of it, and clients wrote the same keys anew. Nothing is overwritten.
    #[error(
        "{} of slot {slot} are at node {} and at node {}, and nothing proves which values are newer. Nothing was overwritten: compare them (each command at the first node after ASKING), delete the wrong ones, then go on", named(keys), from.short(), to.short()
    )]
    BothSides {
        /// The slot.
        slot: Slot,
        /// Where they were to come from.
        from: NodeId,
        /// The slot's owner.
        to: NodeId,
        /// The keys.
        keys: Vec<KeyAt>,
    },
    /// The target has fewer databases than the source has keys in. Nothing was moved.
    #[error("node {} has no database {database}, and node {} holds keys in it; give it as many (cluster-databases)", to.short(), from.short())]
    NoDatabase {
        /// The source.
        from: NodeId,
        /// The target.
        to: NodeId,
        /// The database.
        database: u32,
    },
    /// The server does not tell what has to be known.
    #[error("the server does not tell {0}")]
    Untold(&'static str),
    /// It was not tried, because an earlier step at the same node was not done.
    #[error("an earlier step at the same node was not done")]
    Skipped,
}

/// One step, and how it ended.
#[derive(Debug)]
pub struct Outcome {
    /// The step.
    pub step: Step,
    /// How it ended.
    pub result: Result<(), StepError>,
}

/// Carries out all steps that are done at nodes: nodes at the same time, the steps of one node in their order.
pub(crate) async fn at_nodes(
    links: &Links,
    o: &Observed,
    plan: &Plan,
    proved: &Proved,
) -> Vec<Outcome> {
    let mut by_node: BTreeMap<NodeId, Vec<&Step>> = BTreeMap::new();
    for step in &plan.steps {
        if let Some(node) = step.action.at() {
            by_node.entry(node).or_default().push(step);
        }
    }
    let work = by_node
        .into_iter()
        .map(|(node, steps)| at_node(links, o, proved, node, steps));
    join_all(work).await.into_iter().flatten().collect()
}

/// The nodes that were found at the addresses that steps rely on.
pub(crate) type Proved = BTreeSet<(NodeId, Address)>;

/// Reads again, at every address that a step relies on, who lives there.
pub(crate) async fn prove_addresses(links: &Links, o: &Observed, plan: &Plan) -> Proved {
    let mut asked = Proved::new();
    for requirement in plan.steps.iter().flat_map(|s| &s.requires) {
        if let Precondition::LivesAt { node, address } = requirement {
            asked.insert((*node, address.clone()));
        }
    }
    let answers = join_all(asked.into_iter().map(|(node, address)| async move {
        let name = &o.server_of(node)?.name;
        let there = async { links.client(name, &address).await?.my_id().await };
        match there.await {
            Ok(id) => (id == node).then_some((node, address)),
            Err(error) => {
                tracing::debug!(server = %name, %error, "who lives there was not learned");
                None
            }
        }
    }));
    answers.await.into_iter().flatten().collect()
}

/// Refuses a step that is done at no node unless everyone it relies on lives where it was seen, and whoever must be
/// blank is.
pub(crate) async fn require_apart(
    links: &Links,
    o: &Observed,
    proved: &Proved,
    step: &Step,
) -> Result<(), StepError> {
    for requirement in &step.requires {
        let (node, holds) = match requirement {
            Precondition::LivesAt { node, address } => {
                (*node, proved.contains(&(*node, address.clone())))
            }
            Precondition::IsBlank { node } => (*node, look(links, o, *node).await?.is_blank()),
            Precondition::IsPrimary { node } => (*node, is_primary(&look(links, o, *node).await?)),
            Precondition::IsReplicaOf { node, primary } => {
                let view = look(links, o, *node).await?;
                (*node, is_replica_of(&view, *primary))
            }
            Precondition::IsUnburdened { .. }
            | Precondition::OwnsSlots { .. }
            | Precondition::HoldsNoKeyOf { .. }
            | Precondition::HoldsNoStrayKey { .. }
            | Precondition::SlotsFree { .. } => {
                return Err(StepError::Moved(format!(
                    "nobody can be asked whether {}",
                    assumed(requirement)
                )));
            }
        };
        if !holds {
            return Err(moved(
                node,
                &format!("no longer so: {}", assumed(requirement)),
            ));
        }
    }
    Ok(())
}

async fn at_node(
    links: &Links,
    o: &Observed,
    proved: &Proved,
    node: NodeId,
    steps: Vec<&Step>,
) -> Vec<Outcome> {
    let client = match client_of(links, o, node).await {
        Ok(client) => client,
        Err(error) => {
            let mut first = Some(error);
            let end = |step: &Step| Outcome {
                step: step.clone(),
                result: Err(first.take().unwrap_or(StepError::Skipped)),
            };
            return steps.into_iter().map(end).collect();
        }
    };
    let mut out: Vec<Outcome> = Vec::new();
    let mut failed = false;
    let (meets, rest): (Vec<&Step>, Vec<&Step>) = steps
        .into_iter()
        .partition(|s| matches!(s.action, Action::Meet { .. }));
    for step in rest {
        let result = if failed {
            Err(StepError::Skipped)
        } else {
            perform(links, o, proved, &client, step).await
        };
        // Other slots can still be closed.
        failed |= !matches!(result, Ok(()) | Err(StepError::BothSides { .. }));
        out.push(Outcome {
            step: step.clone(),
            result,
        });
    }
    out.extend(meet(&client, proved, meets).await);
    out
}

pub(crate) async fn client_of(
    links: &Links,
    o: &Observed,
    node: NodeId,
) -> Result<Client, StepError> {
    let (server, address) = place_of(o, node)?;
    Ok(links.client(server, address).await?)
}

/// The server a node lives on, and where that is reached.
pub(crate) fn place_of(o: &Observed, node: NodeId) -> Result<(&ServerName, &Address), StepError> {
    let server = o
        .server_of(node)
        .ok_or_else(|| moved(node, "it is at no known server"))?;
    let address = server
        .address
        .known()
        .ok_or_else(|| moved(node, "its address is not known"))?;
    Ok((&server.name, address))
}

fn moved(node: NodeId, how: &str) -> StepError {
    StepError::Moved(format!("node {}: {how}", node.short()))
}

/// All greetings of one node go in one round trip.
async fn meet(client: &Client, proved: &Proved, steps: Vec<&Step>) -> Vec<Outcome> {
    let mut them: Vec<(IpAddr, u16, u16)> = Vec::new();
    let mut ready: Vec<&Step> = Vec::new();
    let mut out = Vec::new();
    for step in steps {
        let Action::Meet { target, .. } = &step.action else {
            continue;
        };
        let address = target.address();
        if let Some(ip) = address
            .host
            .ip()
            .filter(|_| proved.contains(&(target.node(), address.clone())))
        {
            them.push((ip, address.port, address.bus_port));
            ready.push(step);
        } else {
            let result = Err(moved(
                target.node(),
                &format!("it does not answer at {address}"),
            ));
            out.push(Outcome {
                step: step.clone(),
                result,
            });
        }
    }
    let result = client.meet_all(&them).await;
    for step in ready {
        let result = result.clone().map_err(StepError::from);
        out.push(Outcome {
            step: step.clone(),
            result,
        });
    }
    out
}

async fn perform(
    links: &Links,
    o: &Observed,
    proved: &Proved,
    client: &Client,
    step: &Step,
) -> Result<(), StepError> {
    for requirement in &step.requires {
        require(links, o, proved, client, requirement).await?;
    }
    match &step.action {
        Action::SetConfigEpoch { epoch, .. } => client.set_config_epoch(*epoch).await?,
        Action::AddSlots { slots, .. } => client.add_slots(slots).await?,
        Action::Replicate { primary, .. } => client.replicate(*primary).await?,
        Action::SetElectable { electable, .. } => {
            let no_failover = if *electable { "no" } else { "yes" };
            client
                .config_set(&[("cluster-replica-no-failover", no_failover)])
                .await?;
        }
        Action::Switchover { .. } => client.failover(Failover::Switchover).await?,
        Action::Failover { .. } => client.failover(Failover::Force).await?,
        Action::Takeover { .. } => client.failover(Failover::Takeover).await?,
        Action::Forget { gone, .. } => client.forget(gone.node()).await?,
        Action::Reset { .. } => client.reset(Reset::Hard).await?,
        Action::CloseSlot { slot, .. } => client.set_slot(*slot, SetSlot::Stable).await?,
        Action::RaiseEpoch { .. } => {
            // Whether it was raised or was the greatest already: both are what was asked for.
            client.bump_epoch().await?;
        }
        Action::AssignSlot { slot, owner, .. } => {
            client.set_slot(*slot, SetSlot::Owner(*owner)).await?;
        }
        Action::MoveKeys {
            from,
            to,
            slot,
            keys_max,
            replace,
        } => {
            let work = KeysToMove {
                links,
                o,
                from: *from,
                to,
                slot: *slot,
                keys_max: *keys_max,
                replace: *replace,
                keeps_limit: links.moves().keeps_limit(o, to.node()),
            };
            move_keys(work, client).await?;
        }
        Action::MoveSlots { from, to, slots } => {
            links.moves().step(links, o, *from, to, slots).await?;
        }
        Action::CopyFunctions {
            from,
            to,
            libraries,
        } => functions::copy(links, o, *from, (*to, client), libraries).await?,
        // Greetings go together; starts and records are the runtime's.
        Action::Meet { .. }
        | Action::StartServer { .. }
        | Action::StartAfresh { .. }
        | Action::Recreate { .. }
        | Action::Replace { .. }
        | Action::RemoveServer { .. }
        | Action::RecordFormed => {}
    }
    Ok(())
}

/// Opens a slot at both ends, and moves keys of it; `from` is the server that has them now.
async fn move_keys(work: KeysToMove<'_>, from: &Client) -> Result<(), StepError> {
    let there = client_of(work.links, work.o, work.to.node()).await?;
    let ends = Ends {
        from: (work.from, from),
        to: (work.to.node(), &there),
    };
    if work.replace {
        ends.open(work.o, work.slot).await?;
    } else {
        ends.open_leftover(work.o, work.slot).await?;
    }
    work.go().await
}

/// The two ends of a slot whose keys are to move. A server takes and gives keys only where the slot is open.
struct Ends<'a> {
    from: (NodeId, &'a Client),
    to: (NodeId, &'a Client),
}

impl Ends<'_> {
    /// The owner gives: at the receiver first, so that nobody is sent there in vain.
    async fn open(&self, o: &Observed, slot: Slot) -> Result<(), StepError> {
        let ((from, source), (to, target)) = (self.from, self.to);
        if !shows(o, to, OpenSlot::Importing { slot, from }) {
            target.set_slot(slot, SetSlot::ImportingFrom(from)).await?;
        }
        if !shows(o, from, OpenSlot::Migrating { slot, to }) {
            source.set_slot(slot, SetSlot::MigratingTo(to)).await?;
        }
        Ok(())
    }

    /// What is left at a node that does not own the slot goes to the owner. A node believes nobody about a slot that
    /// it takes in: when its source was failed over it has to be told whose the slot is, and each other such slot.
    async fn open_leftover(&self, o: &Observed, slot: Slot) -> Result<(), StepError> {
        let ((from, source), (to, target)) = (self.from, self.to);
        let gives =
            |end: &OpenSlot| matches!(end, OpenSlot::Migrating { slot: s, .. } if *s == slot);
        if open_at(o, to).iter().any(gives) {
            target.set_slot(slot, SetSlot::Stable).await?;
        }
        for (owner, slots) in untold(o, from) {
            for told in source.set_slots(&slots, SetSlot::Owner(owner)).await? {
                told?;
            }
        }
        let open = |end: &OpenSlot| end.slot() == slot;
        if !open_at(o, from).iter().any(open) {
            source.set_slot(slot, SetSlot::ImportingFrom(to)).await?;
        }
        Ok(())
    }
}

/// The slots that a node takes in, and does not hold to be their owners', by the owners. While one of them is nobody's
/// in its table, it may refuse everything.
fn untold(o: &Observed, node: NodeId) -> BTreeMap<NodeId, Vec<Slot>> {
    let mut untold: BTreeMap<NodeId, Vec<Slot>> = BTreeMap::new();
    for end in open_at(o, node) {
        let OpenSlot::Importing { slot, .. } = end else {
            continue;
        };
        let Some(owner) = o.owner(*slot).filter(|owner| *owner != node) else {
            continue;
        };
        let row = o.view_of(node).and_then(|view| view.rows.get(owner));
        if !row.is_some_and(|row| row.slots.contains(*slot)) {
            untold.entry(owner).or_default().push(*slot);
        }
    }
    untold
}

/// What a node shows open.
fn open_at(o: &Observed, node: NodeId) -> &[OpenSlot] {
    o.view_of(node)
        .and_then(NodeView::own)
        .map_or(&[], |own| own.open.as_slice())
}

fn shows(o: &Observed, node: NodeId, end: OpenSlot) -> bool {
    open_at(o, node).contains(&end)
}

/// Reads again what a step assumed.
async fn require(
    links: &Links,
    o: &Observed,
    proved: &Proved,
    client: &Client,
    requirement: &Precondition,
) -> Result<(), StepError> {
    let (node, holds) = match requirement {
        Precondition::LivesAt { node, address } => {
            (*node, proved.contains(&(*node, address.clone())))
        }
        Precondition::HoldsNoKeyOf { node, slot } => {
            let (server, address) = place_of(o, *node)?;
            let keys = counts::keys_in_all_databases(links, server, address, *slot).await?;
            (*node, keys == 0)
        }
        Precondition::HoldsNoStrayKey { node } => {
            let (server, address) = place_of(o, *node)?;
            let view = look(links, o, *node).await?;
            let none = counts::has_no_stray_key(links, server, address, &view).await?;
            (*node, none)
        }
        Precondition::IsBlank { node } => (*node, look(links, o, *node).await?.is_blank()),
        Precondition::IsUnburdened { node } => (*node, unburdened(&look(links, o, *node).await?)),
        Precondition::OwnsSlots { node } => (*node, owns_slots(&look(links, o, *node).await?)),
        Precondition::IsPrimary { node } => (*node, is_primary(&look(links, o, *node).await?)),
        Precondition::IsReplicaOf { node, primary } => {
            let view = look(links, o, *node).await?;
            (*node, is_replica_of(&view, *primary))
        }
        Precondition::SlotsFree { node, slots } => {
            let view = look(links, o, *node).await?;
            let taken = view
                .rows
                .iter()
                .any(|r| !r.slots.intersection(slots).is_empty());
            (*node, !taken)
        }
    };
    if holds && client.is_closed().is_none() {
        return Ok(());
    }
    Err(moved(
        node,
        &format!("no longer so: {}", assumed(requirement)),
    ))
}

fn unburdened(view: &NodeView) -> bool {
    view.own().is_some_and(|own| {
        own.slots.is_empty() && (own.role == Role::Replica || view.server.keys == 0)
    })
}

fn is_primary(view: &NodeView) -> bool {
    view.own().is_some_and(|own| own.role == Role::Primary)
}

fn owns_slots(view: &NodeView) -> bool {
    let own = view.own();
    own.is_some_and(|own| own.role == Role::Primary && !own.slots.is_empty())
}

fn assumed(requirement: &Precondition) -> String {
    match requirement {
        Precondition::LivesAt { address, .. } => format!("it lives at {address}"),
        Precondition::IsBlank { .. } => "it has no peer, slot or key".to_owned(),
        Precondition::IsUnburdened { .. } => "it has no slot, and no key of its own".to_owned(),
        Precondition::OwnsSlots { .. } => "it is a primary that owns slots".to_owned(),
        Precondition::IsPrimary { .. } => "it is a primary".to_owned(),
        Precondition::IsReplicaOf { primary, .. } => {
            format!("it is a replica of {}", primary.short())
        }
        Precondition::HoldsNoKeyOf { slot, .. } => format!("it holds no key of slot {slot}"),
        Precondition::HoldsNoStrayKey { .. } => {
            "it holds no key of a slot that it does not own".to_owned()
        }
        Precondition::SlotsFree { slots, .. } => format!("nobody owns slots {slots}"),
    }
}

fn is_replica_of(view: &NodeView, primary: NodeId) -> bool {
    view.own()
        .is_some_and(|own| own.role == Role::Replica && own.primary == Some(primary))
}

/// A fresh look at one node.
async fn look(links: &Links, o: &Observed, node: NodeId) -> Result<NodeView, StepError> {
    let (server, address) = place_of(o, node)?;
    match hear::one(links, server, address).await {
        Seen::Known(view) if view.id == node => Ok(view),
        Seen::Known(view) => Err(moved(node, &format!("{} lives there now", view.id.short()))),
        Seen::Unknown(why) => Err(moved(node, &why.to_string())),
    }
}
