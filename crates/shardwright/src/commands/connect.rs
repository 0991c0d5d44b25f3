//! `connect`: the engine's own client at a local cluster, with the password given safely.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use shardwright_manifest::{DEFAULT_USER, REPLICATION_USER, SHARDWRIGHT_USER, User};
use shardwright_runtime_local::Local;

use crate::cli::Connect;
use crate::exit::{ExitStatus, UsageError};
use crate::target::{Target, local_dir};

/// Becomes the client: returns only when that failed.
pub(super) fn run(args: Connect) -> anyhow::Result<ExitStatus> {
    let Target::Local(name) = args.target.parse()? else {
        let text = "`connect` knows the passwords of local clusters only; elsewhere: redis-cli -c -h HOST -p PORT --askpass";
        return Err(UsageError(text.to_owned()).into());
    };
    let local = Local::open(&local_dir(name.as_deref(), args.dir)?)?;
    let user = match args.user {
        Some(user) => user,
        None => application_user(&local),
    };
    let users = local.cluster().users();
    if !users.iter().any(|u| u.name() == user) {
        let names: Vec<_> = users.iter().map(User::name).collect();
        let text = format!("there is no user {user:?}; there are: {}", names.join(", "));
        return Err(UsageError(text).into());
    }
    let mut servers = local.state().servers.iter().collect::<Vec<_>>();
    servers.sort_by_key(|(_, note)| note.index);
    let mut running = None;
    for (server, note) in servers {
        if local.process_of(server)?.is_some() {
            running = Some(local.address_of(note));
            break;
        }
    }
    let Some(address) = running else {
        let name = &local.state().name;
        bail!("{name} is stopped; start it: shardwright up --name {name}");
    };
    let client = client(&local.state().engine)?;
    let mut command = Command::new(&client);
    command.args(["-c", "-h", &address.host.to_string()]);
    command.args(["-p", &address.port.to_string(), "--user", &user]);
    let file = local.password_file(&user);
    if file.is_file() {
        let read = std::fs::read_to_string(&file);
        let password =
            read.with_context(|| format!("cannot read the password file {}", file.display()))?;
        command.env("REDISCLI_AUTH", password.trim_end_matches(['\r', '\n']));
    }
    let failed = command.args(&args.rest).exec();
    Err(failed).with_context(|| format!("cannot run {}", client.display()))
}

/// The first user of the manifest that is for applications, else the administrator.
pub(super) fn application_user(local: &Local) -> String {
    let own = [DEFAULT_USER, REPLICATION_USER, SHARDWRIGHT_USER];
    let users = local.cluster().users();
    let mut names = users.iter().map(User::name);
    let first = names.find(|n| !own.contains(n)).unwrap_or(DEFAULT_USER);
    first.to_owned()
}

/// The client that belongs to the server's program, beside it, else one on the search path.
fn client(engine: &Path) -> anyhow::Result<PathBuf> {
    let valkey = engine
        .file_name()
        .is_some_and(|n| n.to_string_lossy().starts_with("valkey"));
    let names = if valkey {
        ["valkey-cli", "redis-cli"]
    } else {
        ["redis-cli", "valkey-cli"]
    };
    let path = std::env::var_os("PATH").context("PATH is not set, so no client can be found")?;
    let dirs: Vec<PathBuf> = engine
        .parent()
        .map(Path::to_owned)
        .into_iter()
        .chain(std::env::split_paths(&path))
        .collect();
    let mut found = names
        .iter()
        .flat_map(|name| dirs.iter().map(move |dir| dir.join(name)));
    match found.find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!(
            "neither {} nor {} is beside {} or on the search path; install one (Debian: apt-get install redis-tools)",
            names[0],
            names[1],
            engine.display()
        ),
    }
}
