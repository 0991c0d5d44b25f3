//! From a target to a keeper.

use std::collections::BTreeMap;
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use futures_util::future::join_all;
use shardwright_engine::{Access, Credentials, Endpoint, Secret, Timeouts, Tls, TlsOptions};
use shardwright_manifest::DEFAULT_USER;
use shardwright_planner::{Desired, Limits};
use shardwright_runtime::{
    Guest, Keeper, Links, PenError, Runtime, name_of_local_run, new_pen, refuse_second_pen,
};
use shardwright_runtime_local::{Local, StateError, StateLock, state_dir_of};
use shardwright_topology::{FindError, NodeId, Observed, SLOT_COUNT};

use crate::cli::Login;
use crate::exit::{Refusal, UsageError};
use crate::kubernetes;
use crate::printer::Printer;
use crate::target::{Target, local_dir, quoted};

/// A keeper of any cluster.
pub(crate) type AnyKeeper = Keeper<Box<dyn Runtime>>;

/// Whether the cluster is to be changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// Only looked at.
    Read,
    /// Changed: there is one pen.
    Change,
}

/// How many slots one step moves here: as many as growing from three shards to four takes from one. A step ends by itself
/// after two seconds, so that a pass is short anyway.
const STEP_SLOTS: u16 = 2_048;

impl Purpose {
    /// The same limits; what is only looked at is shown whole.
    pub(crate) fn limits(self, mut limits: Limits) -> Limits {
        limits.slots_per_step_max = match self {
            Self::Read => SLOT_COUNT,
            Self::Change => STEP_SLOTS,
        };
        limits
    }
}

/// How to log in at servers that others run.
pub(crate) fn access(login: &Login, out: &mut Printer) -> anyhow::Result<Access> {
    let password = password(login, out)?;
    if login.user.is_some() && password.is_none() {
        let how = "give its password: --password-file FILE, --askpass, or SHARDWRIGHT_PASSWORD";
        return Err(UsageError(format!("--user needs a password; {how}")).into());
    }
    let credentials = password.map(|password| Credentials {
        user: login.user.clone(),
        password,
    });
    let timeouts = Timeouts {
        command: Duration::from_millis(login.command_timeout),
        ..Timeouts::default()
    };
    Ok(Access {
        credentials,
        alternative: None,
        tls: tls(login)?,
        timeouts,
        dial: None,
    })
}

/// How a person logs in at the nodes of a cluster, to send what no role of ours needs: at one of this machine as the
/// administrator.
pub(crate) fn person(
    target: &Target,
    dir: Option<PathBuf>,
    login: &Login,
    out: &mut Printer,
) -> anyhow::Result<Access> {
    let access = access(login, out)?;
    let Target::Local(name) = target else {
        return Ok(access);
    };
    let local = Local::open(&local_dir(name.as_deref(), dir)?)?;
    let path = local.password_file(DEFAULT_USER);
    let password = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read the password file {}", path.display()))?;
    let credentials = Credentials {
        user: Some(DEFAULT_USER.to_owned()),
        password: Secret::new(password.trim_end()),
    };
    Ok(Access {
        credentials: Some(credentials),
        ..access
    })
}

/// TLS, where it is asked for.
pub(crate) fn tls(login: &Login) -> anyhow::Result<Option<Tls>> {
    if !login.tls {
        return Ok(None);
    }
    let tls = Tls::load(&TlsOptions {
        cacert: login.cacert.clone(),
        cert: login.cert.clone(),
        key: login.key.clone(),
        insecure: login.insecure,
        sni: login.sni.clone(),
    })?;
    Ok(Some(tls))
}

fn password(login: &Login, out: &mut Printer) -> anyhow::Result<Option<Secret>> {
    if let Some(path) = &login.password_file {
        let text = match std::fs::read_to_string(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let text = format!("there is no password file {}", path.display());
                return Err(UsageError(text).into());
            }
            read => {
                read.with_context(|| format!("cannot read the password file {}", path.display()))?
            }
        };
        warn_if_readable(path, out)?;
        return Ok(Some(Secret::new(text.trim_end_matches(['\r', '\n']))));
    }
    if login.askpass {
        let text = rpassword::prompt_password("Password: ")
            .context("cannot ask for the password without a terminal")?;
        return Ok(Some(Secret::new(text)));
    }
    let from = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
    Ok(from("SHARDWRIGHT_PASSWORD")
        .or_else(|| from("REDISCLI_AUTH"))
        .map(Secret::new))
}

fn warn_if_readable(path: &std::path::Path, out: &mut Printer) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path)?.permissions().mode();
    if mode & 0o044 != 0 {
        out.warn(&format!(
            "the password file {0} can be read by others; run: chmod 600 {0}",
            path.display()
        ));
    }
    Ok(())
}

/// A keeper of the cluster that is meant, and what it sees there.
pub(crate) async fn open(
    target: &Target,
    dir: Option<PathBuf>,
    login: &Login,
    purpose: Purpose,
    out: &mut Printer,
) -> anyhow::Result<(AnyKeeper, Observed)> {
    let mut keeper = match target {
        Target::Member(endpoint) => {
            let guest = Guest::of(std::slice::from_ref(endpoint)).await?;
            guest_keeper(guest, login, purpose, out)?
        }
        Target::Local(name) => {
            let dir = local_dir(name.as_deref(), dir)?;
            let local = match purpose {
                Purpose::Read => Local::open(&dir)?,
                Purpose::Change => Local::open_to_change(&dir)?,
            };
            let name = match purpose {
                Purpose::Read => None,
                Purpose::Change => Some(name_of_local_run(unique()?)),
            };
            let links = Links::new(local.access(), name);
            let (desired, limits) = (local.cluster().desired(), local.cluster().limits());
            let limits = purpose.limits(limits);
            let runtime: Box<dyn Runtime> = Box::new(local);
            Keeper::new(runtime, links, desired, limits)
        }
        Target::Kubernetes(key) => {
            if purpose == Purpose::Change {
                let text = "a cluster on Kubernetes is changed by its operator alone";
                return Err(Refusal(text.to_owned()).into());
            }
            return kubernetes::look_at(key, login, out).await;
        }
    };
    let observed = first_look(&mut keeper, target, purpose).await?;
    Ok((keeper, observed))
}

/// A keeper of a cluster that others run.
pub(crate) fn guest_keeper(
    guest: Guest,
    login: &Login,
    purpose: Purpose,
    out: &mut Printer,
) -> anyhow::Result<AnyKeeper> {
    let pen = match purpose {
        Purpose::Read => None,
        Purpose::Change => Some(new_pen(unique()?)),
    };
    let links = Links::new(access(login, out)?, pen);
    let runtime: Box<dyn Runtime> = Box::new(guest);
    Ok(Keeper::new(
        runtime,
        links,
        Desired::guest(),
        purpose.limits(Limits::default()),
    ))
}

/// Makes sure that no other run changes the cluster that others run, now and while this keeper lives.
///
/// # Errors
/// As [`refuse_second_pen`], and when a run for a local cluster of this machine works on these servers.
pub(crate) async fn be_alone(keeper: &mut AnyKeeper, observed: &Observed) -> anyhow::Result<()> {
    lock_local_owner(keeper, observed).await?;
    Ok(refuse_second_pen(keeper.links(), observed).await?)
}

/// Refuses where a run by HOST:PORT, which may be one of another machine, works on the servers of a local cluster whose
/// lock is ours.
pub(crate) async fn be_alone_with_lock(links: &Links, observed: &Observed) -> Result<(), PenError> {
    match refuse_second_pen(links, observed).await {
        // What does not answer now is what is to be brought back.
        Ok(()) | Err(PenError::Unknown(_)) => Ok(()),
        Err(taken @ PenError::Taken { .. }) => Err(taken),
    }
}

/// Takes the lock of each local cluster of this machine to which these servers belong, so that no run for it changes them
/// meanwhile, whichever way they are named.
///
/// # Errors
/// [`Refusal`] when such a run works on them now, and where a server does not say which process it is.
async fn lock_local_owner(keeper: &mut AnyKeeper, observed: &Observed) -> anyhow::Result<()> {
    let links = keeper.links();
    let servers = observed.views().map(|(server, _)| async move {
        let Some(address) = server.address.known() else {
            return Ok(None);
        };
        let client = links.client(&server.name, address).await?;
        let info = client.info(Some("server")).await?;
        Ok::<_, shardwright_engine::Error>(state_dir(&info))
    });
    let mut dirs = BTreeMap::new();
    for ((server, _), dir) in observed.views().zip(join_all(servers).await) {
        if let Some(dir) = dir? {
            dirs.entry(dir).or_insert_with(|| server.name.clone());
        }
    }
    for (dir, server) in dirs {
        match StateLock::take(&dir) {
            Ok(lock) => keeper.hold(lock),
            Err(StateError::Locked { pid, .. }) => {
                let text = format!(
                    "{server} is a server of the local cluster in {0}, on which another shardwright (process {pid}) works; \
                     it is asked where the cluster is named so: local --dir {0}",
                    quoted(&dir)
                );
                return Err(Refusal(text).into());
            }
            Err(other) => return Err(other.into()),
        }
    }
    Ok(())
}

/// The state directory of the local cluster to which the server belongs that says this of itself (`INFO server`).
fn state_dir(info: &[u8]) -> Option<PathBuf> {
    let text = String::from_utf8_lossy(info);
    let field = |name: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    let pid = field("process_id")?.parse().ok()?;
    state_dir_of(Path::new(field("config_file")?), pid)
}

/// A number that no other run has.
pub(crate) fn unique() -> anyhow::Result<u128> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|e| anyhow::anyhow!("no random bytes: {e}"))?;
    Ok(u128::from_be_bytes(bytes))
}

/// One look at a cluster that was named by a member: it must be reached, and be a cluster.
async fn first_look(
    keeper: &mut AnyKeeper,
    target: &Target,
    purpose: Purpose,
) -> anyhow::Result<Observed> {
    let observed = keeper.observe().await?;
    if let Target::Member(endpoint) = target {
        must_be_a_cluster(keeper, &observed, endpoint).await?;
    }
    match (purpose, target) {
        (Purpose::Read, _) => {}
        (Purpose::Change, Target::Local(_)) => {
            be_alone_with_lock(keeper.links(), &observed).await?;
        }
        (Purpose::Change, Target::Member(_) | Target::Kubernetes(_)) => {
            be_alone(keeper, &observed).await?;
        }
    }
    Ok(observed)
}

/// The member that was named answers, and it is in a cluster. Otherwise its own error is the best word there is.
async fn must_be_a_cluster(
    keeper: &AnyKeeper,
    observed: &Observed,
    endpoint: &Endpoint,
) -> anyhow::Result<()> {
    if observed.views().next().is_none() {
        let client = shardwright_engine::Client::connect(endpoint, keeper.links().access()).await?;
        client.observe().await?;
    }
    let alone = observed.views().all(|(_, v)| v.peers().next().is_none());
    let empty = observed.members().values().all(|m| m.slots.is_empty());
    if alone && empty {
        let text =
            format!("{endpoint} is in no cluster; form one: shardwright create HOST:PORT...");
        return Err(UsageError(text).into());
    }
    Ok(())
}

/// The node that a person means: an id or its beginning, an address, or a server's name.
pub(crate) fn find_node(o: &Observed, text: &str) -> anyhow::Result<NodeId> {
    let found = match shardwright_topology::find_node(o, text) {
        Err(FindError::None(_)) => by_host_name(o, text),
        found => found,
    };
    found.map_err(|error| {
        let hint = match &error {
            FindError::None(_) => "; see: shardwright status",
            FindError::Several(_) => "",
        };
        UsageError(format!("{error}{hint}")).into()
    })
}

/// A node by HOST:PORT with a host that is a name here, as `localhost`: tables of nodes have addresses.
fn by_host_name(o: &Observed, text: &str) -> Result<NodeId, FindError> {
    let none = || FindError::None(text.to_owned());
    let endpoint: Endpoint = text.parse().map_err(|_| none())?;
    let addresses = (endpoint.host.as_str(), endpoint.port).to_socket_addrs();
    let addresses = addresses.map_err(|_| none())?;
    let mut found = addresses.map(|a| shardwright_topology::find_node(o, &a.to_string()));
    found.find_map(Result::ok).ok_or_else(none)
}
