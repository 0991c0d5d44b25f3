//! The grammar of the command line: only clap types.

mod asking;
mod looking;
mod machine;
mod moving;
mod verb;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::asking::{Call, Import, SetTimeout};
pub(crate) use self::looking::Status;
pub(crate) use self::machine::{Completions, Connect, Logs, Man};
pub(crate) use self::moving::{By, Cancel, MoveRun, Pace, Pause, Rebalance, Reshard, Scale};

use crate::printer::Output;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "shardwright",
    version,
    about = "Declare a sharded Redis or Valkey cluster once; it is formed, grown, rolled and healed.",
    after_help = "TARGET is HOST:PORT of any member of any cluster, local[:NAME] for one of this machine (the default), or\n\
                  k8s:NAMESPACE/NAME for one that an operator keeps on Kubernetes.\n\
                  Exit status: 0 done or healthy, 1 not healthy or failed, 2 usage, 3 refused because it is unsafe, 130 after Ctrl-C.\n\n\
                  Examples:\n  \
                  shardwright up -f examples/article.yaml     a cluster on this machine\n  \
                  shardwright status                          how it is\n  \
                  shardwright create 10.0.0.{1..6}:6379       form a cluster from six empty nodes\n  \
                  shardwright check 10.0.0.1:6379             what is wrong with it, and what mends it"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every verb takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// How to write data to standard output
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    /// Say more on standard error: -v what is done, -vv every look
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(flatten)]
    pub(crate) login: Login,
}

/// Which Kubernetes is meant: only for targets there.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Kubernetes")]
pub(crate) struct KubeArgs {
    /// The context of the kubeconfig to use, instead of its current one
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The kubeconfig to use, instead of KUBECONFIG or ~/.kube/config
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Whether kubectl called us: then hints are written its way.
    #[arg(skip)]
    pub(crate) plugin: bool,
}

/// How to log in at servers. Local clusters and those on Kubernetes need none of this.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Login {
    /// The ACL user to log in as
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Read the password from this file
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "askpass")]
    pub(crate) password_file: Option<PathBuf>,
    /// Ask for the password on the terminal. Else `SHARDWRIGHT_PASSWORD` or `REDISCLI_AUTH` is used, if set
    #[arg(long, global = true)]
    pub(crate) askpass: bool,
    /// Connect with TLS
    #[arg(long, global = true)]
    pub(crate) tls: bool,
    /// The certificates to trust
    #[arg(long, global = true, value_name = "FILE", requires = "tls")]
    pub(crate) cacert: Option<PathBuf>,
    /// Our certificate
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        requires = "tls",
        requires = "key"
    )]
    pub(crate) cert: Option<PathBuf>,
    /// The key of our certificate
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        requires = "tls",
        requires = "cert"
    )]
    pub(crate) key: Option<PathBuf>,
    /// The server name to expect in certificates
    #[arg(long, global = true, value_name = "NAME", requires = "tls")]
    pub(crate) sni: Option<String>,
    /// Accept any certificate
    #[arg(long, global = true, requires = "tls")]
    pub(crate) insecure: bool,
    /// The time limit of one command, in milliseconds
    #[arg(long, global = true, value_name = "MS", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) command_timeout: u64,
    #[command(flatten)]
    pub(crate) kube: KubeArgs,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a cluster on this machine, or bring it back
    #[command(alias = "start")]
    Up(Up),
    /// Show a cluster: shards, slots, roles, lag, keys, memory
    Status(Status),
    /// Stop a cluster of this machine, with its data saved
    #[command(alias = "stop")]
    Down(Down),
    /// List the clusters of this machine
    #[command(
        alias = "list",
        after_help = "Examples:\n  shardwright ls\n  shardwright ls -o json"
    )]
    Ls,
    /// Print the end of a local server's log
    Logs(Logs),
    /// Open the engine's own client at a local cluster
    Connect(Connect),
    /// Form a cluster from running empty nodes
    Create(Create),
    /// Find what is wrong with a cluster, and name the command that mends it
    #[command(after_help = "Examples:\n  \
        shardwright check 10.0.0.1:6379         every node's view is compared\n  \
        shardwright check local:cache -o json   the problems as a list\n\n\
        Exit status 1 where a problem makes it unhealthy; a [note] does not.")]
    Check(TargetArgs),
    /// Mend what is wrong with a cluster
    Fix(Fix),
    /// Print what would be done, and why; change nothing
    Plan(PlanArgs),
    /// Make a replica the primary of its shard
    Failover(FailoverArgs),
    /// Let an empty node join a cluster
    AddNode(AddNode),
    /// Take a node out of a cluster; slots that it has move to the others first
    #[command(alias = "del-node")]
    RemoveNode(RemoveNode),
    /// Give a cluster more or fewer shards or replicas
    Scale(Scale),
    /// Give out no further slots; those under way are finished
    Pause(Pause),
    /// Let slots move again
    Resume(Pause),
    /// Take a change of shape back: as many shards and replicas as there were before it
    Cancel(Cancel),
    /// Move slots so that all shards have as many, or as many as their weights say
    Rebalance(Rebalance),
    /// Move slots from some shards to another
    Reshard(Reshard),
    /// Print keys, slots and replicas of each primary, in a line each
    #[command(after_help = "Examples:\n  \
        shardwright info 10.0.0.1:6379\n  \
        shardwright info local -o json")]
    Info(TargetArgs),
    /// Send a command to each node
    Call(Call),
    /// Set after how much silence a node is failed, at every node
    SetTimeout(SetTimeout),
    /// Bring in the keys of a server that is in no cluster
    Import(Import),
    /// Run the Kubernetes operator: keep the clusters that are declared there
    Operator(OperatorArgs),
    /// Print everything that the operator needs on Kubernetes
    Install(Install),
    /// Print the definition of a `RedisCluster` for Kubernetes
    Crd(CrdArgs),
    /// Print a cluster's Kubernetes objects, for those who run no operator
    Render(Render),
    /// Print completions for a shell
    Completions(Completions),
    /// Print the manual page
    Man(Man),
}

/// The cluster that is meant.
#[derive(Clone, Debug, Args)]
pub(crate) struct TargetArgs {
    /// HOST:PORT of any member, local:NAME, or k8s:NAMESPACE/NAME; local is the only one of this machine
    #[arg(default_value = "local")]
    pub(crate) target: String,
    /// The directory of the local cluster
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    shardwright up                                  three shards, a replica each, with the engine that is found\n  \
    shardwright up -f examples/article.yaml         as the manifest says\n  \
    shardwright up --watch                          bring it back, and keep it healed until Ctrl-C\n  \
    shardwright up --engine valkey --port 7100      with Valkey, on ports from 7100\n  \
    shardwright up --shards 5                       as `scale --shards 5`: more servers, and slots move\n\n\
    A cluster that was started before comes back with its data. Without -f it is the stored manifest that counts.\n\
    While `up --watch` runs, the other verbs are carried out by it: scale, cancel, failover, fix, rebalance, pause, resume, and \
    down, which ends it.")]
pub(crate) struct Up {
    /// The manifest (`RedisCluster`); - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The cluster's name, without a manifest
    #[arg(long, conflicts_with = "file")]
    pub(crate) name: Option<String>,
    /// How many shards: 3 or more
    #[arg(long, value_name = "N")]
    pub(crate) shards: Option<u32>,
    /// How many replicas for each shard
    #[arg(long, value_name = "N")]
    pub(crate) replicas: Option<u32>,
    /// redis, valkey, or the path of a server program
    #[arg(long, value_name = "ENGINE")]
    pub(crate) engine: Option<String>,
    /// The directory of the cluster: state, data, logs, passwords
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// The first client port; the bus ports are 10000 higher
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// A directory with passwords: a file for each user, or SECRET/KEY as the manifest names them
    #[arg(long, value_name = "DIR")]
    pub(crate) secrets: Option<PathBuf>,
    /// Stay, and heal whatever breaks, until SIGINT or SIGTERM; the servers run on
    #[arg(long)]
    pub(crate) watch: bool,
    /// How what is watched is written to standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text, requires = "watch")]
    pub(crate) log_format: LogFormat,
    /// How long the cluster may take to become healthy, in seconds
    #[arg(long, value_name = "S", default_value_t = 60)]
    pub(crate) timeout: u64,
    /// Go on although data is lost: start servers without their newest data, form anew what is empty
    #[arg(long)]
    pub(crate) accept_data_loss: bool,
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) pace: Pace,
}

/// How a change is carried out.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Run {
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How long it may take, in seconds; a node that was forgotten can come back only after a minute
    #[arg(long, value_name = "S", default_value_t = 120)]
    pub(crate) timeout: u64,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  shardwright down            stop; `shardwright up` brings it back with its data\n  \
    shardwright down --purge    stop, and remove all its data, logs and passwords, once you agreed"
)]
pub(crate) struct Down {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Remove the cluster with all its data, logs and passwords
    #[arg(long)]
    pub(crate) purge: bool,
    /// Do not ask before the data is removed
    #[arg(short, long, requires = "purge")]
    pub(crate) yes: bool,
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    shardwright create 127.0.0.1:700{1..6} --replicas 1\n  \
    REDISCLI_AUTH=secret shardwright create redis-{0..5}.redis:6379 --replicas 1 --yes\n\n\
    It returns when ids, roles and slots agree in every node's view and all links are up.")]
pub(crate) struct Create {
    /// The nodes, HOST:PORT each: running, in cluster mode, empty
    #[arg(required = true, value_name = "HOST:PORT")]
    pub(crate) nodes: Vec<String>,
    /// How many replicas for each primary
    #[arg(
        long,
        visible_alias = "cluster-replicas",
        value_name = "N",
        default_value_t = 0
    )]
    pub(crate) replicas: u16,
    /// Do not ask
    #[arg(short, long, visible_alias = "cluster-yes")]
    pub(crate) yes: bool,
    /// Where the nodes are one cluster already, be done, or bring them together again
    #[arg(long)]
    pub(crate) unless_formed: bool,
    #[command(flatten)]
    pub(crate) run: Run,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  shardwright fix 10.0.0.1:6379 --dry-run    what it would do\n  \
    shardwright fix 10.0.0.1:6379"
)]
pub(crate) struct Fix {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Give slots without an owner to another node: what they held is lost
    #[arg(long)]
    pub(crate) accept_data_loss: bool,
    #[command(flatten)]
    pub(crate) run: Run,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    shardwright plan 10.0.0.1:6379       what would be mended\n  \
    shardwright plan local --shards 5    what `scale` would do: new servers, slots, keys, time")]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Plan as if the cluster were to have so many shards. Not for one that others run
    #[arg(long, value_name = "N")]
    pub(crate) shards: Option<u32>,
    /// Plan as if each shard of it were to have so many replicas
    #[arg(long, value_name = "N")]
    pub(crate) replicas: Option<u32>,
    /// Plan as if the loss of what can't be had any more were accepted
    #[arg(long)]
    pub(crate) accept_data_loss: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "NODE is a node id or its beginning, HOST:PORT, or the name of a local server or a pod.\n\n\
    Examples:\n  shardwright failover local redis-4             in sync with the primary: nothing is lost\n  \
    shardwright failover 10.0.0.1:6379 3f2a --force   its primary is dead: by vote\n  \
    shardwright failover local redis-4 --takeover --i-know-the-primary-is-dead   it is silent, and you know\n  \
    shardwright failover k8s:cache/redis redis-4      by the operator, which is asked on the object"
)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one independent switch of the command line"
)]
pub(crate) struct FailoverArgs {
    /// HOST:PORT of any member, local:NAME, or k8s:NAMESPACE/NAME; local is the only one of this machine
    pub(crate) target: String,
    /// The replica that is to become the primary
    pub(crate) node: String,
    /// The directory of the local cluster
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Without the primary, which must be proved dead: by vote of the other primaries
    #[arg(long, conflicts_with = "takeover", group = "past")]
    pub(crate) force: bool,
    /// Without the primary, which must be proved dead, and without votes
    #[arg(long, group = "past")]
    pub(crate) takeover: bool,
    /// Your word in place of that proof while the primary is unreachable; writes that NODE has not read are lost
    #[arg(long, requires = "past")]
    pub(crate) i_know_the_primary_is_dead: bool,
    /// Do not ask where other nodes of the shard are too old to follow the new primary
    #[arg(short, long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) run: Run,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  shardwright add-node 10.0.0.1:6379 10.0.0.7:6379             a replica for the shard with the fewest\n  \
    shardwright add-node 10.0.0.1:6379 10.0.0.7:6379 --primary   an empty primary, to be given slots"
)]
pub(crate) struct AddNode {
    /// HOST:PORT of any member of the cluster
    pub(crate) target: String,
    /// HOST:PORT of the new node: running, in cluster mode, empty
    #[arg(value_name = "HOST:PORT")]
    pub(crate) node: String,
    /// Whose replica it becomes: a node id or its beginning, or HOST:PORT
    #[arg(
        long,
        value_name = "NODE",
        conflicts_with = "primary",
        visible_alias = "cluster-primary-id"
    )]
    pub(crate) replica_of: Option<String>,
    /// Join as a primary without slots
    #[arg(long)]
    pub(crate) primary: bool,
    #[command(flatten)]
    pub(crate) run: Run,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  shardwright remove-node 10.0.0.1:6379 3f2a              its slots move to the others first\n  \
    shardwright remove-node 10.0.0.1:6379 3f2a --dry-run    what would be done\n\n\
    Everyone forgets the node, and the node forgets everyone and becomes new. Its process runs on."
)]
pub(crate) struct RemoveNode {
    /// HOST:PORT of any other member of the cluster
    pub(crate) target: String,
    /// The node: its id or the beginning of it, or HOST:PORT
    pub(crate) node: String,
    #[command(flatten)]
    pub(crate) run: MoveRun,
}

/// How logs are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// A JSON object a line.
    Json,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  shardwright operator                            all clusters, as where KUBECONFIG points to\n  \
    shardwright operator --namespace cache          only those of one namespace\n\n\
    Of several operators with one lease one acts; the others wait. Exit status 1 when the lease was lost."
)]
pub(crate) struct OperatorArgs {
    /// Keep only the clusters of this namespace; may be given several times. All namespaces without
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) namespace: Vec<String>,
    /// How many clusters are worked on at a time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) concurrency: u16,
    /// Where /livez, /readyz and /metrics are served
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) admin_addr: SocketAddr,
    /// The namespace of the lease. Without: the pod's own, else the first --namespace, else shardwright-system
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) lease_namespace: Option<String>,
    /// How logs are written to standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  shardwright install | kubectl apply -f -\n  \
    shardwright install --watch-namespace cache | kubectl apply -f -    only for clusters of one namespace\n  \
    shardwright install --kubernetes 1.24 | kubectl apply -f -          for that version of Kubernetes"
)]
pub(crate) struct Install {
    /// The namespace of the operator
    #[arg(long, value_name = "NAMESPACE", default_value = shardwright_operator::install::NAMESPACE)]
    pub(crate) namespace: String,
    /// The image of the operator. Without: the one of this version
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    /// Keep only the clusters of this namespace, which must exist; may be given several times
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) watch_namespace: Vec<String>,
    /// The priority class of the operator's pod, such as system-cluster-critical where the platform admits it. Without: none
    #[arg(long, value_name = "CLASS")]
    pub(crate) priority_class: Option<String>,
    #[command(flatten)]
    pub(crate) rules: RulesFor,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  shardwright crd | kubectl apply -f -\n  \
    shardwright crd --kubernetes 1.24 | kubectl apply -f -    for that version of Kubernetes")]
pub(crate) struct CrdArgs {
    #[command(flatten)]
    pub(crate) rules: RulesFor,
}

/// Which rules about documents an API server takes.
#[derive(Debug, Args)]
pub(crate) struct RulesFor {
    /// The version of Kubernetes it is for. Older ones refuse rules that newer ones take: there are more from 1.25, 1.29
    /// and 1.30 on. Without: the newest
    #[arg(long, value_name = "VERSION")]
    pub(crate) kubernetes: Option<String>,
    /// Leave out all rules in the Common Expression Language: the same as --kubernetes 1.24
    #[arg(long, conflicts_with = "kubernetes")]
    pub(crate) without_cel: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  shardwright render -f examples/article.yaml --secrets passwords --make-passwords | kubectl apply -f -    a new cluster\n  \
    shardwright render -f examples/article.yaml --secrets passwords | kubectl apply -f -                     the same again\n  \
    shardwright render -f examples/article.yaml --secrets passwords --kubernetes 1.20\n\n\
    A Job forms the cluster; run again, it does nothing, or brings the nodes together where they lost sight of each \
    other. Without an operator nobody does that by himself: after all pods were gone at once, delete the Job \
    NAME-create and apply the output again. A cluster without the \
    append-only file is refused: who would tell a server that lost its memory when it may start again?\n\
    The passwords are taken from --secrets, and no output has others: applied to a cluster that runs, it would lock \
    everybody out. Which version of Kubernetes it is for is asked of the API server that kubectl would use. Where it \
    can't be asked, say it before 1.21 (--kubernetes 1.20), or kubectl finds no PodDisruptionBudget in version \
    policy/v1."
)]
pub(crate) struct Render {
    /// The manifest (`RedisCluster`); - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// A directory with passwords: a file for each user, or SECRET/KEY as the manifest names them
    #[arg(long, value_name = "DIR")]
    pub(crate) secrets: Option<PathBuf>,
    /// Make the passwords that are missing in --secrets, and keep them there; for a new cluster
    #[arg(long, requires = "secrets")]
    pub(crate) make_passwords: bool,
    /// The image of the Job that forms the cluster. Without: the one of this version
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    /// The version of Kubernetes it is for: before 1.21 some objects have other versions; from 1.27 on the disruption
    /// budget lets pods go that are not ready. Without: asked of the API server, if one is known here
    #[arg(long, value_name = "VERSION")]
    pub(crate) kubernetes: Option<String>,
}
