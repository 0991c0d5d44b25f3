//! What a command line asks for, in a few words.

use super::Command;
use crate::verb_result::Asked;

impl Command {
    /// The verb, the cluster that it names, and whether it is only to be shown what would be done.
    pub(crate) fn asked(&self) -> Asked {
        let (verb, cluster, dry_run) = match self {
            Self::Up(a) => (
                "up",
                a.name.clone().map(|n| format!("local:{n}")),
                a.dry_run,
            ),
            Self::Status(a) => return a.asked(),
            Self::Down(a) => ("down", Some(a.target.target.clone()), a.dry_run),
            Self::Ls => ("ls", None, false),
            Self::Logs(a) => ("logs", Some(a.target.clone()), false),
            Self::Connect(a) => ("connect", Some(a.target.clone()), false),
            Self::Create(a) => ("create", a.nodes.first().cloned(), a.run.dry_run),
            Self::Check(a) => ("check", Some(a.target.clone()), false),
            Self::Fix(a) => ("fix", Some(a.target.target.clone()), a.run.dry_run),
            Self::Plan(a) => ("plan", Some(a.target.target.clone()), true),
            Self::Failover(a) => ("failover", Some(a.target.clone()), a.run.dry_run),
            Self::AddNode(a) => ("add-node", Some(a.target.clone()), a.run.dry_run),
            Self::RemoveNode(a) => ("remove-node", Some(a.target.clone()), a.run.dry_run),
            Self::Scale(a) => ("scale", Some(a.target.target.clone()), a.run.dry_run),
            Self::Pause(a) => ("pause", Some(a.target.target.clone()), a.dry_run),
            Self::Resume(a) => ("resume", Some(a.target.target.clone()), a.dry_run),
            Self::Cancel(a) => ("cancel", Some(a.target.target.clone()), a.run.dry_run),
            Self::Rebalance(a) => ("rebalance", Some(a.target.target.clone()), a.run.dry_run),
            Self::Reshard(a) => ("reshard", Some(a.target.clone()), a.run.dry_run),
            Self::Info(a) => ("info", Some(a.target.clone()), false),
            Self::Call(a) => ("call", Some(a.target.clone()), false),
            Self::SetTimeout(a) => ("set-timeout", Some(a.target.clone()), a.dry_run),
            Self::Import(a) => ("import", Some(a.target.clone()), a.dry_run),
            Self::Operator(_) => ("operator", None, false),
            Self::Install(_) => ("install", None, false),
            Self::Crd(_) => ("crd", None, false),
            Self::Render(_) => ("render", None, false),
            Self::Completions(_) => ("completions", None, false),
            Self::Man(_) => ("man", None, false),
        };
        Asked {
            verb: Some(verb.to_owned()),
            cluster,
            dry_run,
        }
    }
}
