//! `add-node`: let an empty node join.

use std::collections::BTreeSet;

use anyhow::Context;
use shardwright_engine::Endpoint;
use shardwright_planner::{Foreign, Request, Standing, safety, standings, unserved};
use shardwright_runtime::Guest;
use shardwright_topology::{
    ConfigEpoch, Flags, Member, NodeId, NodeView, Observed, Role, Seen, ServerName, Unreadable,
};

use super::change;
use crate::cli::{AddNode, Login};
use crate::connect::{Purpose, be_alone, find_node, guest_keeper};
use crate::exit::{ExitStatus, Refusal, UsageError};
use crate::printer::Printer;
use crate::report::named;
use crate::target::{Target, not_on_kubernetes};

pub(super) async fn run(
    args: AddNode,
    login: &Login,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let member = member_of(&args.target)?;
    let joiner = args.node.parse().map_err(|e| UsageError(format!("{e}")))?;
    let mut guest = Guest::of(std::slice::from_ref(&member)).await?;
    let server = guest.add(&joiner).await?;
    let asked = guest.add(&member).await?;
    let purpose = if args.run.dry_run {
        Purpose::Read
    } else {
        Purpose::Change
    };
    let mut keeper = guest_keeper(guest, login, purpose, out)?;
    let observed = keeper.observe().await?;
    if let Some(Seen::Unknown(why)) = observed.servers().get(&server).map(|s| &s.view) {
        anyhow::bail!("{joiner} is not heard: {why}; start it, in cluster mode, and try again");
    }
    must_not_be_swapped(&observed, &asked, &server, &args)?;
    let of = args
        .replica_of
        .as_deref()
        .map(|text| find_node(&observed, text))
        .transpose()?;
    if of.is_some_and(|id| observed.member(id).is_none_or(|m| m.role == Role::Replica)) {
        return Err(UsageError("--replica-of names a replica; name a primary".to_owned()).into());
    }
    if !args.primary {
        must_read_a_primary(&observed, &server, of, &joiner)?;
    }
    let request = Request::Join {
        server: server.clone(),
        replica: !args.primary,
        of,
    };
    let desired = keeper.desired().clone().with(request);
    match standings(&desired, &observed)
        .get(&server)
        .context("the new node was lost")?
    {
        Standing::Foreign(Foreign::Returned { was }) => out.say(&format!(
            "{joiner} was node {}, and is taken in with its data",
            was.short()
        )),
        Standing::Foreign(what) => {
            let text = cannot_join(&joiner.to_string(), &server, what, &observed, &args.target);
            return Err(Refusal(text).into());
        }
        Standing::Member => {
            if let Some(done) = is_member(&observed, &server, of, &args)? {
                out.say(&done);
                return Ok(ExitStatus::Success);
            }
            out.say(&format!(
                "{joiner} is a member already; what is left to do is done"
            ));
        }
        Standing::MayJoin | Standing::Leaving | Standing::Unheard => {}
    }
    keeper.set_desired(desired);
    if args.run.dry_run {
        return change::dry_run(&mut keeper, out).await;
    }
    be_alone(&mut keeper, &observed).await?;
    let primary = args.primary;
    let is_so = |o: &Observed| {
        let own = o.servers().get(&server).and_then(|s| s.view.known()?.own());
        own.is_some_and(|own| {
            let listed = o.beliefs(own.id).any(|(speaker, _)| speaker != own.id);
            // Until its first copy is proved it may not take its primary's place: only then is it a replica to rely on.
            let waits = o.held_back.contains(&own.id);
            let follows = own.role == Role::Replica && (of.is_none() || own.primary == of);
            listed && (primary || follows && !waits || !own.slots.is_empty())
        })
    };
    let done = format!("[OK] {joiner} has joined");
    change::carry_out_alone_until(&mut keeper, args.run.timeout, &done, is_so, out).await
}

/// The member that a target names, where nodes may be added by hand.
fn member_of(target: &str) -> anyhow::Result<Endpoint> {
    match target.parse()? {
        Target::Member(member) => Ok(member),
        Target::Kubernetes(key) => {
            let what = " change spec.shards or spec.replicasPerShard";
            Err(not_on_kubernetes(&key, "edit", what))
        }
        Target::Local(_) => {
            let text = "a local cluster gets its nodes from its manifest; name another cluster by HOST:PORT";
            Err(UsageError(text.to_owned()).into())
        }
    }
}

/// The target is a member of a cluster and the node is none: not the other way round, as `redis-cli` has it.
fn must_not_be_swapped(
    o: &Observed,
    target: &ServerName,
    node: &ServerName,
    args: &AddNode,
) -> Result<(), UsageError> {
    let view = |name| o.servers().get(name).and_then(|s| s.view.known());
    let blank = view(target).is_some_and(NodeView::is_blank);
    let member = view(node).is_some_and(|v| v.peers().next().is_some());
    if !(blank && member) {
        return Ok(());
    }
    let (first, second) = (&args.target, &args.node);
    Err(UsageError(format!(
        "{first} is in no cluster, and {second} is: the target comes first; you mean: shardwright add-node {second} {first}"
    )))
}

/// What to say of a node that is a member already, where nothing is to be done about it; nothing for a primary without
/// slots, which may have been left so by a run that was broken off.
fn is_member(
    o: &Observed,
    server: &ServerName,
    of: Option<NodeId>,
    args: &AddNode,
) -> Result<Option<String>, Refusal> {
    let own = o.servers().get(server).and_then(|s| s.view.known()?.own());
    let Some(own) = own else {
        return Ok(None);
    };
    // What a run that was broken off began is gone on with: a replica that is held back, a primary without an epoch.
    if own.flags.has(Flags::NOFAILOVER) || !own.slots.is_empty() && own.epoch == ConfigEpoch(0) {
        return Ok(None);
    }
    let node = &args.node;
    let advice = "a member stays what it is; take it out first to give it another place";
    let nothing = |what: String| {
        Ok(Some(format!(
            "[OK] nothing to do: {node} is a member already: {what}"
        )))
    };
    match (own.role, own.primary) {
        (Role::Replica, Some(primary)) if args.primary => Err(Refusal(format!(
            "{node} is a replica of {} already, and no primary: {advice}",
            named(&primary.short(), o)
        ))),
        (Role::Replica, Some(primary)) if of.is_some_and(|of| of != primary) => {
            Err(Refusal(format!(
                "{node} is a replica of {} already: {advice}",
                named(&primary.short(), o)
            )))
        }
        (Role::Replica, Some(primary)) => {
            nothing(format!("a replica of {}", named(&primary.short(), o)))
        }
        (Role::Primary, _) if !own.slots.is_empty() && !args.primary => Err(Refusal(format!(
            "{node} is a primary with {} slots already: {advice}",
            own.slots.count()
        ))),
        (Role::Primary, _) if !own.slots.is_empty() => nothing("a primary".to_owned()),
        (Role::Primary | Role::Replica, _) => Ok(None),
    }
}

/// Why a server can't join. What it holds of slots that nobody serves may be all that is left of them.
fn cannot_join(
    joiner: &str,
    server: &ServerName,
    what: &Foreign,
    o: &Observed,
    target: &str,
) -> String {
    let view = o.servers().get(server).and_then(|s| s.view.known());
    let has_keys = view.is_some_and(|v| v.server.keys > 0);
    let unserved = unserved(o);
    if has_keys && !unserved.is_empty() {
        return format!(
            "{joiner} can't join: {what}. Do not empty it: nobody serves slots {unserved}, and it may have the only copy of their keys; see: shardwright check {target}"
        );
    }
    format!(
        "{joiner} can't join: {what}; if nobody needs that, empty it first (FLUSHALL, CLUSTER RESET HARD)"
    )
}

/// A replica reads what its primary writes: one whose version can't is refused before anybody knows it.
fn must_read_a_primary(
    o: &Observed,
    server: &ServerName,
    of: Option<NodeId>,
    joiner: &Endpoint,
) -> Result<(), Refusal> {
    let Some(view) = o.servers().get(server).and_then(|s| s.view.known()) else {
        return Ok(());
    };
    let meant = |m: &&Member| m.id != view.id && of.is_none_or(|id| id == m.id);
    let named = of.and_then(|id| o.member(id));
    let mut primaries: Vec<&Member> = o.voters().filter(meant).collect();
    if primaries.is_empty() {
        primaries.extend(named);
    }
    let reads = |m: &&Member| safety::can_copy(o, view.id, m.id);
    if primaries.is_empty() || primaries.iter().any(reads) {
        return Ok(());
    }
    let why = primaries
        .first()
        .and_then(|m| safety::why_not_copy(o, view.id, m.id));
    if let Some(Unreadable::Databases { has, wants }) = why {
        return Err(Refusal(format!(
            "{joiner} can't join as a replica: it has {has} databases, and its primary has {wants}, so it would mix their keys; \
             start it with as many: cluster-databases {wants}"
        )));
    }
    let versions: BTreeSet<String> = primaries
        .iter()
        .filter_map(|m| o.view_of(m.id))
        .map(|v| format!("{} {}", v.server.engine, v.server.version))
        .collect();
    let versions: Vec<String> = versions.into_iter().collect();
    let (engine, version) = (view.server.engine, view.server.version);
    Err(Refusal(format!(
        "{joiner} can't join as a replica: {engine} {version} can't read all that {} writes, so its copy would fail, or lack what it does not know; \
         start it with that engine and version, or a newer one",
        versions.join(", ")
    )))
}
