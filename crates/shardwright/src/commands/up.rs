//! `up`: start a cluster on this machine, or bring it back; with `--watch`, keep it.

use std::io::Read;
use std::path::Path;

use anyhow::Context;
use shardwright_manifest::{API_VERSION, Accepted, Cluster, EngineKind, KIND};
use shardwright_planner::ForeignNodesMet;
use shardwright_runtime::{Keeper, Links, Report, name_of_local_run};
use shardwright_runtime_local::{
    Engine, EngineChoice, Local, Opened, State, TrialError, find_engine, is_to_be_tried, root,
    try_configuration,
};
use shardwright_topology::Timestamp;

use super::change;
use super::connect::application_user;
use super::declare::{Taken, Wanted};
use super::reshape::{self, Reshape};
use super::serve::{self, After, Beside, Incoming, Work};
use crate::cli::{LogFormat, Pace, Up};
use crate::connect::{be_alone_with_lock, unique};
use crate::exit::{ExitStatus, UsageError};
use crate::handover::Declaration;
use crate::met::foreign_nodes_met;
use crate::printer::{Printer, chatter};
use crate::report::{causes, named};
use crate::requests::{Control, Requests};
use crate::stop::{Interrupted, signal_that_came, stop};
use crate::target::only_local;
use crate::watch::{Event, EventTracker, Severity};

/// The name of a cluster that was given none.
const DEFAULT_NAME: &str = "redis";

pub(super) async fn run(args: Up, out: &mut Printer) -> anyhow::Result<ExitStatus> {
    Box::pin(bring(args, ("up", None), out)).await
}

/// The same for the verb that was typed, with other words for its end than how to connect.
pub(super) async fn bring(
    args: Up,
    (typed, done): (&str, Option<String>),
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let source = Source::read(&args)?;
    let Accepted { cluster, warnings } = source.accept(&args)?;
    for warning in warnings {
        out.warn(&warning.to_string());
    }
    let dir = match &args.dir {
        Some(dir) => std::path::absolute(dir)?,
        None => root()?.join(cluster.name()),
    };
    if let Some(secrets) = args.secrets.as_ref().filter(|d| !d.is_dir()) {
        return Err(UsageError(format!(
            "--secrets {}: no such directory",
            secrets.display()
        ))
        .into());
    }
    let engine = find_engine(&choice(&args, &cluster, &dir)?)?;
    out.record.cluster(format!("local:{}", cluster.name()));
    let before = declared(&dir);
    try_first(before.as_ref(), &dir, &cluster, &engine, out).await?;
    if args.dry_run {
        let stop = stop().context("cannot listen to signals")?;
        return tokio::select! {
            biased;
            () = stop => Err(Interrupted("stopped before it was shown".to_owned()).into()),
            shown = dry_run(&dir, &cluster, &engine, &args.pace, out) => shown,
        };
    }
    let secrets = args.secrets.as_deref().map(std::path::absolute);
    let declaration = Declaration {
        typed: typed.to_owned(),
        manifest: source.to_store(&args, &cluster)?,
        engine: engine.path.clone(),
        port: args.port,
        secrets: secrets.transpose()?,
        timeout_s: args.timeout,
        accept_data_loss: args.accept_data_loss,
        pace: args.pace.into(),
        done: done.clone(),
    };
    let wanted = Wanted {
        dir: &dir,
        cluster,
        engine: &engine,
        declaration,
    };
    let opened = match wanted.hand_over_or_declare(args.watch, out).await? {
        Taken::HandedOver(status) => return Ok(status),
        Taken::Declared(opened) => *opened,
    };
    let changed = before.as_ref() != Some(opened.local.cluster());
    out.record.changed(changed);
    let local = welcome(opened, &engine, out);
    let done = done.unwrap_or_else(|| how_to_connect(&local));
    let desired = change::consenting(&local.cluster().desired(), args.accept_data_loss);
    let links = Links::new(local.access(), Some(name_of_local_run(unique()?)));
    let limits = local.cluster().limits();
    let mut requests = Requests::listen(&local, out);
    let mut keeper = Keeper::new(local, links, desired, limits);
    let ended = work(&mut keeper, &mut requests, &args, &done, out).await;
    serve::yield_to_next(keeper, requests).await;
    ended
}

/// Brings the cluster back, and watches it from then on where that was asked for.
async fn work(
    keeper: &mut Keeper<Local>,
    requests: &mut Requests,
    args: &Up,
    done: &str,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    change::keep_pace(keeper, &args.pace);
    let observed = keeper.observe().await?;
    be_alone_with_lock(keeper.links(), &observed).await?;
    let goal = Work::Goal {
        timeout_s: args.timeout,
        done,
    };
    let mut incoming = Incoming {
        requests: &mut *requests,
        tell: &mut |_| {},
    };
    let brought_back = serve::work(keeper, goal, None, &mut incoming, out).await;
    if !args.watch || signal_that_came().is_some() {
        return brought_back;
    }
    // What one shard lacks leaves the others no less in need of somebody who watches.
    match brought_back {
        Ok(ExitStatus::Success) => {}
        Ok(_) => out.warn("it is not healthy yet; that is watched too"),
        Err(error) => out.warn(&format!("{error:#}; what can be done is done on")),
    }
    // Consent was given for bringing it back, not for whatever may come.
    let desired = change::consenting(keeper.desired(), false);
    keeper.set_desired(desired);
    change::keep_pace(keeper, &args.pace);
    watch(keeper, requests, args.log_format, out).await
}

/// Says what there is to say of a cluster that was opened.
pub(super) fn welcome(opened: Opened, engine: &Engine, out: &mut Printer) -> Local {
    for warning in opened.warnings {
        out.warn(&warning);
    }
    out.say(&format!(
        "{} {} from {}",
        engine.kind,
        engine.version,
        engine.path.display()
    ));
    opened.local
}

/// Where the manifest comes from.
enum Source {
    /// A file, standard input, or the stored one.
    Text(String),
    /// Nowhere: one with defaults and this name.
    Default(String),
}

impl Source {
    fn read(args: &Up) -> anyhow::Result<Self> {
        if let Some(path) = &args.file {
            return Ok(Self::Text(read_manifest(path)?));
        }
        let name = match (&args.name, &args.dir) {
            (Some(name), _) => name.clone(),
            (None, Some(_)) => DEFAULT_NAME.to_owned(),
            // As every other verb: the only cluster there is, whatever it is called.
            (None, None) => only_local(&root()?)?.unwrap_or_else(|| DEFAULT_NAME.to_owned()),
        };
        let dir = match &args.dir {
            Some(dir) => dir.clone(),
            None => root()?.join(&name),
        };
        let stored = dir.join("manifest.yaml");
        if stored.is_file() {
            return Ok(Self::Text(read_manifest(&stored)?));
        }
        Ok(Self::Default(name))
    }

    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Default(name) => {
                let document = serde_json::json!({
                    "apiVersion": API_VERSION, "kind": KIND,
                    "metadata": { "name": name }, "spec": { "shards": 3 },
                });
                document.to_string()
            }
        }
    }

    fn accept(&self, args: &Up) -> anyhow::Result<Accepted> {
        let accepted =
            Cluster::from_text_with(&self.text(), |document| asked(args).apply(document));
        let place = args
            .file
            .as_ref()
            .map_or_else(|| "the manifest".to_owned(), |p| p.display().to_string());
        accepted.with_context(|| format!("{place} can't be used"))
    }

    /// The text to be stored: as it was written, unless the command line changed it.
    fn to_store(&self, args: &Up, cluster: &Cluster) -> anyhow::Result<String> {
        let text = self.text();
        if !asked(args).is_some() {
            return Ok(text);
        }
        let mut stored = None;
        Cluster::from_text_with(&text, |document| {
            asked(args).apply(document);
            stored = Some(document.clone());
        })?;
        let document =
            stored.with_context(|| format!("the manifest of {} was lost", cluster.name()))?;
        Ok(serde_json::to_string_pretty(&document)?)
    }
}

fn asked(args: &Up) -> Reshape {
    Reshape {
        shards: args.shards,
        replicas: args.replicas,
    }
}

pub(super) fn read_manifest(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read the manifest from standard input")?;
        return Ok(text);
    }
    match std::fs::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err(UsageError(format!("there is no manifest {}", path.display())).into())
        }
        read => read.with_context(|| format!("cannot read the manifest {}", path.display())),
    }
}

/// The engine of the command line, else the one the cluster runs with, else the manifest's, else any.
fn choice(args: &Up, cluster: &Cluster, dir: &Path) -> anyhow::Result<EngineChoice> {
    if let Some(text) = &args.engine {
        let choice: EngineChoice = text.parse()?;
        return Ok(match choice {
            EngineChoice::Path(path) if path.components().count() > 1 => {
                EngineChoice::Path(std::path::absolute(path)?)
            }
            other => other,
        });
    }
    let stored = State::read(dir)?.map(|state| state.engine);
    if let Some(path) = stored.filter(|path| path.is_file()) {
        return Ok(EngineChoice::Path(path));
    }
    Ok(match cluster.engine() {
        Some(EngineKind::Redis) => EngineChoice::Kind(shardwright_topology::EngineKind::Redis),
        Some(EngineKind::Valkey) => EngineChoice::Kind(shardwright_topology::EngineKind::Valkey),
        None => EngineChoice::Any,
    })
}

/// Refuses a configuration that is new to the engine and that it does not start with, before anything depends on it.
async fn try_first(
    before: Option<&Cluster>,
    dir: &Path,
    cluster: &Cluster,
    engine: &Engine,
    out: &mut Printer,
) -> anyhow::Result<()> {
    let found = State::read(dir)?;
    if !is_to_be_tried(before, found.as_ref(), cluster, engine) {
        return Ok(());
    }
    let stop = stop().context("cannot listen to signals")?;
    match try_configuration(cluster, engine, stop).await {
        Ok(()) => Ok(()),
        Err(error @ TrialError::Stopped) => Err(Interrupted(error.to_string()).into()),
        Err(error) if error.is_a_refusal() => Err(error.into()),
        Err(error) => {
            out.warn(&format!(
                "the configuration is used without having been tried first: {}",
                causes(&error)
            ));
            Ok(())
        }
    }
}

async fn dry_run(
    dir: &Path,
    cluster: &Cluster,
    engine: &Engine,
    pace: &Pace,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    if !dir.join("cluster.json").is_file() {
        out.would(&format!(
            "Would start {} servers ({} {}) in {}, and form {} shards with {} replica(s) each.",
            cluster.nodes(),
            engine.kind,
            engine.version,
            dir.display(),
            cluster.shards(),
            cluster.replicas_per_shard()
        ))?;
        return Ok(ExitStatus::Success);
    }
    reshape::preview(dir, cluster, Some(pace), out).await
}

/// What is declared there now; none where nothing is, or nothing that can be read.
fn declared(dir: &Path) -> Option<Cluster> {
    let text = read_manifest(&dir.join("manifest.yaml")).ok()?;
    Some(Cluster::from_text(&text).ok()?.cluster)
}

/// A command that works when it is pasted, for the first user that is for applications, else the administrator.
pub(super) fn how_to_connect(local: &Local) -> String {
    let user = application_user(local);
    let Some(note) = local.state().servers.values().min_by_key(|s| s.index) else {
        return "[OK]".to_owned();
    };
    let address = local.address_of(note);
    format!(
        "[OK] {} is healthy. Connect:\n  REDISCLI_AUTH=\"$(cat {})\" redis-cli -c -h {} -p {} --user {user}",
        local.cluster().name(),
        local.password_file(&user).display(),
        address.host,
        address.port
    )
}

async fn watch(
    keeper: &mut Keeper<Local>,
    requests: &mut Requests,
    format: LogFormat,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let mut log = Log {
        tracker: EventTracker::default(),
        met: None,
        format,
    };
    log.say("watching; Ctrl-C ends the watch, the servers run on");
    while signal_that_came().is_none() {
        let mut control = Control::requests(requests);
        let (stop, _) = control.parts()?;
        keeper.watch(stop, |report| log.pass(report, out)).await?;
        if signal_that_came().is_some() {
            break;
        }
        let Some(asked) = requests.take() else {
            continue;
        };
        let what = asked.what();
        log.say(&format!("asked for {what}"));
        let mut tell = |report: &Report| log.pass(report, out);
        let mut incoming = Incoming {
            requests: &mut *requests,
            tell: &mut tell,
        };
        let answered = serve::answer(keeper, asked, &mut incoming, Beside::Watch).await;
        log.say(&format!(
            "{what} ended with status {}",
            answered.status.code()
        ));
        if answered.changed {
            out.record.changed(true);
        }
        if answered.after == After::Stopped {
            log.say("the servers were stopped, so the watch has ended");
            return Ok(ExitStatus::Success);
        }
    }
    log.say("the watch has ended; the servers run on");
    Ok(ExitStatus::Success)
}

/// Writes what is watched to standard error.
struct Log {
    tracker: EventTracker,
    /// The nodes of another cluster that were told of.
    met: Option<ForeignNodesMet>,
    format: LogFormat,
}

impl Log {
    /// What there is to tell of a pass.
    fn pass(&mut self, report: &Report, out: &mut Printer) {
        if report.outcomes.iter().any(|o| o.result.is_ok()) {
            out.record.changed(true);
        }
        self.met(report);
        for event in self.tracker.pass(report) {
            self.write(&event);
        }
    }

    /// Tells of nodes of another cluster as soon as they are seen, and again when more of them are, or more is lost: the
    /// next pass may see nothing of them any more.
    fn met(&mut self, report: &Report) {
        if report.plan.is_settled() {
            self.met = None;
        }
        let met = foreign_nodes_met(&report.plan);
        let told = self.met.as_ref();
        let Some(met) = met.filter(|met| !told.is_some_and(|told| told.is_like(met))) else {
            return;
        };
        let text = named(&met.to_string(), &report.observed);
        self.write(&Event::new(report.observed.at, Severity::Error, text));
        self.met = Some(met.clone());
    }

    fn say(&self, text: &str) {
        // A clock before 1970 is a machine without a clock.
        let now = u64::try_from(jiff::Timestamp::now().as_millisecond());
        let now = now.map_or(Timestamp(0), Timestamp);
        self.write(&Event::new(now, Severity::Info, text));
    }

    fn write(&self, event: &Event) {
        match self.format {
            LogFormat::Text => chatter(&event.line()),
            LogFormat::Json => chatter(&event.json().to_string()),
        }
    }
}
