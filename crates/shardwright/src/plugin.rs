//! `kubectl shardwright VERB NAME -n NAMESPACE`: the same verbs, named kubectl's way.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::{Arg, ArgMatches, Command as Grammar, CommandFactory, FromArgMatches};

use crate::cli::{Cli, Command};
use crate::exit::UsageError;
use crate::kubernetes::namespace;

/// What kubectl looks for.
const PROGRAM: &str = "kubectl-shardwright";
/// The verbs with a TARGET that have a place on Kubernetes.
const VERBS: [&str; 9] = [
    "status", "check", "fix", "plan", "failover", "scale", "pause", "resume", "cancel",
];
/// Those that are told what to do instead.
const ELSEWHERE: [&str; 10] = [
    "ls",
    "logs",
    "connect",
    "up",
    "down",
    "create",
    "add-node",
    "remove-node",
    "rebalance",
    "reshard",
];
/// The id of our flag; `operator` and `install` have a `--namespace` of their own.
const NAMESPACE: &str = "in_namespace";
/// How kubectl names our kind before a slash.
const KIND: [&str; 2] = ["rediscluster", "redisclusters"];

/// Whether kubectl called us, by the name that we were called by.
pub(crate) fn is_called(program: Option<&OsStr>) -> bool {
    let name = program.and_then(|path| Path::new(path).file_stem());
    name == Some(OsStr::new(PROGRAM))
}

/// Why a command line can't be followed.
#[derive(Debug)]
pub(crate) enum Unparsed {
    /// The grammar does not take it, or is asked to explain itself.
    Grammar(clap::Error),
    /// It names what is not there for it.
    Meaning(UsageError),
}

/// Reads a command line of kubectl's.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, Unparsed> {
    let matches = grammar().try_get_matches_from(args);
    understand(&matches.map_err(Unparsed::Grammar)?).map_err(Unparsed::Meaning)
}

fn grammar() -> Grammar {
    let mut grammar = Cli::command()
        .name(PROGRAM)
        .bin_name("kubectl shardwright")
        .after_help(
            "NAME is the RedisCluster; its namespace is -n, or that of the context.\n\
             Exit status: 0 done or healthy, 1 not healthy or failed, 2 usage, 3 refused because it is unsafe, 130 after Ctrl-C.\n\n\
             Examples:\n  \
             kubectl shardwright status redis -n cache                    how it is\n  \
             kubectl shardwright check redis -n cache                     what is wrong with it, and what mends it\n  \
             kubectl shardwright failover redis redis-4 -n cache          make redis-4 the primary of its shard\n  \
             kubectl shardwright fix redis -n cache --accept-data-loss    go on without what can't be had any more",
        )
        .arg(flag());
    for verb in VERBS {
        grammar = grammar.mut_subcommand(verb, kubectls);
    }
    for verb in ELSEWHERE {
        grammar = grammar.mut_subcommand(verb, |verb| verb.hide(true));
    }
    grammar
}

/// A verb with its cluster named kubectl's way.
fn kubectls(verb: Grammar) -> Grammar {
    let failover = verb.get_name() == "failover";
    let node = match verb.get_name() {
        "failover" => " redis-4",
        "scale" => " --shards 5",
        _ => "",
    };
    let example = format!(
        "Examples:\n  kubectl shardwright {} redis{node} -n cache",
        verb.get_name()
    );
    // An argument that is changed would go to the end.
    let verb = verb
        .mut_arg("target", |target| {
            target
                .index(1)
                .required(true)
                .default_value(None::<&str>)
                .value_name("NAME")
                .help("The RedisCluster, as NAME or rediscluster/NAME")
        })
        .mut_args(|arg| match arg.get_id().as_str() {
            "dir" | "pace" | "max_pause" | "bandwidth" | "force" => arg.hide(true),
            _ => arg,
        })
        .arg(flag())
        .after_help(example);
    if failover {
        verb.mut_arg("node", |node| node.index(2))
    } else {
        verb
    }
}

fn flag() -> Arg {
    Arg::new(NAMESPACE)
        .short('n')
        .long("namespace")
        .value_name("NAMESPACE")
        .help("The namespace of the RedisCluster; that of the context without")
}

fn understand(matches: &ArgMatches) -> Result<Cli, UsageError> {
    let mut cli = Cli::from_arg_matches(matches).map_err(|e| UsageError(e.to_string()))?;
    cli.global.login.kube.plugin = true;
    let target = match &mut cli.command {
        Command::Status(args) => &mut args.target.target,
        Command::Check(args) | Command::Info(args) => &mut args.target,
        Command::Call(args) => &mut args.target,
        Command::Fix(args) => &mut args.target.target,
        Command::Plan(args) => &mut args.target.target,
        Command::Failover(args) => &mut args.target,
        Command::Scale(args) => &mut args.target.target,
        Command::Pause(args) | Command::Resume(args) => &mut args.target.target,
        Command::Cancel(args) => &mut args.target.target,
        Command::Up(_) | Command::Create(_) => return Err(elsewhere("apply -f FILE")),
        Command::Down(_) => return Err(elsewhere("delete rediscluster NAME")),
        Command::AddNode(_)
        | Command::RemoveNode(_)
        | Command::Rebalance(_)
        | Command::Reshard(_) => {
            return Err(elsewhere(
                "edit rediscluster NAME (spec.shards, spec.replicasPerShard)",
            ));
        }
        Command::SetTimeout(_) => {
            return Err(elsewhere("edit rediscluster NAME (spec.config)"));
        }
        Command::Import(args) => &mut args.target,
        Command::Logs(_) => return Err(elsewhere("logs NAME-0")),
        Command::Ls => return Err(elsewhere("get redisclusters -A")),
        Command::Connect(_) => {
            return Err(elsewhere("exec -it NAME-0 -- redis-cli -c --askpass"));
        }
        Command::Operator(_)
        | Command::Install(_)
        | Command::Crd(_)
        | Command::Render(_)
        | Command::Completions(_)
        | Command::Man(_) => return Ok(cli),
    };
    let given = matches.subcommand().and_then(|(_, verb)| {
        let given = verb.get_one::<String>(NAMESPACE);
        given.or_else(|| matches.get_one(NAMESPACE)).cloned()
    });
    *target = meant(target, given, || namespace(&cli.global.login.kube))?;
    Ok(cli)
}

fn elsewhere(kubectl: &str) -> UsageError {
    UsageError(format!(
        "on Kubernetes the object says what there is to be, and the operator keeps to it; instead: kubectl {kubectl}"
    ))
}

/// The target as it is named everywhere else.
fn meant(
    typed: &str,
    given: Option<String>,
    of_context: impl FnOnce() -> String,
) -> Result<String, UsageError> {
    if typed.starts_with("k8s:") {
        return match given {
            None => Ok(typed.to_owned()),
            Some(namespace) => Err(UsageError(format!(
                "{typed} names its namespace itself; leave out -n {namespace}, or write just the name"
            ))),
        };
    }
    let name = match typed.split_once('/') {
        None => typed,
        Some((kind, name)) if KIND.contains(&kind) => name,
        Some(_) => {
            let text = format!("{typed:?} names no RedisCluster; write NAME -n NAMESPACE");
            return Err(UsageError(text));
        }
    };
    if name.is_empty() || name.contains([':', '/']) {
        let text = format!("{typed:?} names no RedisCluster; write NAME -n NAMESPACE");
        return Err(UsageError(text));
    }
    Ok(format!("k8s:{}/{name}", given.unwrap_or_else(of_context)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(line: &str) -> Result<String, String> {
        let matches = grammar()
            .try_get_matches_from(line.split(' '))
            .map_err(|e| e.to_string())?;
        let cli = understand(&matches).map_err(|e| e.to_string())?;
        assert!(cli.global.login.kube.plugin);
        Ok(match cli.command {
            Command::Status(args) => args.target.target,
            Command::Check(args) => args.target,
            Command::Fix(args) => args.target.target,
            Command::Plan(args) => args.target.target,
            Command::Failover(args) => format!("{} {}", args.target, args.node),
            _ => String::new(),
        })
    }

    #[test]
    fn the_grammar_is_sound() {
        grammar().debug_assert();
        Cli::command().debug_assert();
    }

    #[test]
    fn every_help_has_examples_that_the_grammar_takes() {
        let ours = Cli::command();
        for verb in ours.get_subcommands() {
            let name = verb.get_name();
            let help = verb.clone().render_help().to_string();
            let examples = help.split("Examples:\n").nth(1);
            let examples = examples.unwrap_or_else(|| panic!("{name} --help has no Examples"));
            let calls = examples
                .lines()
                .take_while(|line| line.starts_with("  "))
                .filter(|line| line.contains(&format!("shardwright {name}")));
            assert!(calls.count() > 0, "no example of {name} calls it: {help}");
        }
        let mut kubectls = grammar();
        kubectls.build();
        for name in VERBS {
            let verb = kubectls.find_subcommand_mut(name).expect("a verb");
            let help = verb.render_help().to_string();
            assert!(help.contains("Examples:\n"), "{help}");
        }
    }

    /// Verbs that change nothing, or, as `call`, are themselves told what to do.
    const LOOKS: [&str; 15] = [
        "status",
        "ls",
        "logs",
        "connect",
        "check",
        "plan",
        "info",
        "call",
        "operator",
        "install",
        "crd",
        "render",
        "completions",
        "man",
        "help",
    ];

    #[test]
    fn whatever_changes_a_cluster_has_a_dry_run() {
        for verb in Cli::command().get_subcommands() {
            let has = verb.get_arguments().any(|a| a.get_id() == "dry_run");
            let name = verb.get_name();
            assert_eq!(has, !LOOKS.contains(&name), "{name} --dry-run");
        }
    }

    #[test]
    fn only_the_name_that_kubectl_looks_for_is_the_plugin() {
        for (name, is) in [
            ("/usr/local/bin/kubectl-shardwright", true),
            ("kubectl-shardwright", true),
            ("shardwright", false),
            ("/kubectl-shardwright/shardwright", false),
        ] {
            assert_eq!(is_called(Some(OsStr::new(name))), is, "{name}");
        }
        assert!(!is_called(None));
    }

    #[test]
    fn a_name_and_a_namespace_are_a_target() {
        for (line, meant) in [
            ("k status redis -n cache", "k8s:cache/redis"),
            ("k check -n cache redis", "k8s:cache/redis"),
            ("k -n cache fix redis --accept-data-loss", "k8s:cache/redis"),
            (
                "k plan rediscluster/redis --namespace=cache",
                "k8s:cache/redis",
            ),
            (
                "k failover redis redis-4 -n cache --force",
                "k8s:cache/redis redis-4",
            ),
            ("k status k8s:cache/redis", "k8s:cache/redis"),
        ] {
            assert_eq!(target(line).as_deref(), Ok(meant), "{line}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for line in [
            "k status",
            "k status -n cache",
            "k status cache/redis -n cache",
            "k status k8s:cache/redis -n cache",
            "k status 10.0.0.1:6379 -n cache",
            "k status local:redis -n cache",
            "k up -f cluster.yaml",
            "k down -n cache redis",
            "k create 10.0.0.1:6379",
        ] {
            assert!(target(line).is_err(), "{line}");
        }
    }

    #[test]
    fn without_a_namespace_the_contexts_is_meant() {
        let meant = meant("redis", None, || "of-the-context".to_owned());
        assert_eq!(meant.expect("a name"), "k8s:of-the-context/redis");
    }
}
