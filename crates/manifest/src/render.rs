//! From a [`Cluster`] to the files a server reads: pure, the same bytes for the same input.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::checks::users::slot_moving_rules;
use crate::cluster::{Cluster, REPLICATION_USER, User};
use crate::document::AppendFsync;
use crate::quote::quote;
use crate::secret::{PasswordHash, Secret};
use crate::wire_words::{REPLICATION_PASSWORD_DIRECTIVE, REPLICATION_USER_DIRECTIVE};

/// When snapshots are written, as the engines have it by default: after an hour if a key changed,
/// after five minutes if 100 did, after one if 10000 did.
const SNAPSHOT_INTERVALS: &str = "3600 1 300 100 60 10000";

/// Every address. The dash: a machine without IPv6 is no error.
const ALL_ADDRESSES: [&str; 2] = ["*", "-::*"];

/// What differs from node to node. Paths are absolute: the server changes into `dir` while it reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSettings {
    /// Where clients connect.
    pub port: u16,
    /// Where the other nodes connect; None is the engine's own choice, port + 10000.
    pub bus_port: Option<u16>,
    /// The addresses to listen on. With none, all that the machine has (of IPv6 only where it has it).
    pub bind: Vec<IpAddr>,
    /// The directory of the data and of the node's memory of the cluster.
    pub dir: PathBuf,
    /// The name (not the path) of the file of the node's memory of the cluster, in `dir`.
    pub nodes_file: String,
    /// The ACL file, written by [`users_acl`].
    pub acl_file: PathBuf,
    /// The file with the password for replication, written by [`replication_auth`], readable by the
    /// server's user only (0600).
    pub auth_file: PathBuf,
    /// Where the server writes the number of its process.
    pub pid_file: Option<PathBuf>,
    /// Where the server writes its log; None is the standard output.
    pub log_file: Option<PathBuf>,
    /// The address that others are told. Where it can change, it has to be set anew at every start:
    /// a stale one is never mended by the cluster.
    pub announce_ip: Option<IpAddr>,
    /// The host name that clients are told.
    pub announce_hostname: Option<String>,
}

/// Why a file cannot be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A path that cannot be written into a text file.
    #[error("the path {} is not UTF-8, and redis.conf cannot name it: choose another directory", .0.display())]
    PathNotText(PathBuf),
    /// The servers take the path after `include` for a pattern.
    #[error("the path {} has one of the characters * ? [ in it, and redis.conf cannot include it: choose another directory", .0.display())]
    PathIsPattern(PathBuf),
    /// Users without a password and without permission to be so.
    #[error("no password for {}: give one in a Secret, in the directory of secrets, or as a hash", .0.join(", "))]
    NoPassword(Vec<String>),
    /// A user whom the engines would let in with an empty password.
    #[error("the password of {0} is empty: give one of at least one character")]
    EmptyPassword(String),
}

/// `redis.conf` of one node: one directive a line, each key once, no secrets.
pub fn redis_conf(cluster: &Cluster, node: &NodeSettings) -> Result<String, RenderError> {
    let mut conf = Conf::default();
    conf.comment(&format!(
        "Written by Shardwright for the cluster {}. What is changed here is lost: change the manifest.",
        cluster.name()
    ));
    conf.comment("This node.");
    node_directives(&mut conf, node)?;
    conf.comment("A node of a cluster, supervised from outside.");
    conf.directive("cluster-enabled", "yes");
    conf.directive("cluster-config-file", &node.nodes_file);
    conf.directive("cluster-allow-replica-migration", "no");
    conf.directive("daemonize", "no");
    conf.directive("supervised", "no");
    conf.comment("What is written to disk.");
    persistence_directives(&mut conf, cluster);
    conf.comment("Defaults, and over them the settings of the manifest.");
    for (key, value) in cluster.settings() {
        conf.directive(&key, &value);
    }
    Ok(conf.0)
}

fn node_directives(conf: &mut Conf, node: &NodeSettings) -> Result<(), RenderError> {
    let auth_file = text(&node.auth_file)?;
    if auth_file.contains(['*', '?', '[']) {
        return Err(RenderError::PathIsPattern(node.auth_file.clone()));
    }
    conf.directive("port", &node.port.to_string());
    if let Some(bus_port) = node.bus_port {
        conf.directive("cluster-port", &bus_port.to_string());
    }
    let addresses: Vec<String> = if node.bind.is_empty() {
        ALL_ADDRESSES.map(str::to_owned).to_vec()
    } else {
        node.bind.iter().map(IpAddr::to_string).collect()
    };
    // One argument or several: the engines take both for a setting of many values.
    conf.directive("bind", &addresses.join(" "));
    conf.directive("dir", text(&node.dir)?);
    conf.directive("aclfile", text(&node.acl_file)?);
    conf.directive("include", auth_file);
    if let Some(path) = &node.pid_file {
        conf.directive("pidfile", text(path)?);
    }
    let log_file = node.log_file.as_deref().map_or(Ok(""), text)?;
    conf.directive("logfile", log_file);
    if let Some(address) = node.announce_ip {
        conf.directive("cluster-announce-ip", &address.to_string());
    }
    if let Some(name) = &node.announce_hostname {
        conf.directive("cluster-announce-hostname", name);
    }
    Ok(())
}

fn persistence_directives(conf: &mut Conf, cluster: &Cluster) {
    let persistence = cluster.persistence();
    conf.directive("appendonly", if persistence.aof { "yes" } else { "no" });
    let fsync = match persistence.fsync {
        AppendFsync::Everysec => "everysec",
        AppendFsync::Always => "always",
        AppendFsync::Never => "no",
    };
    conf.directive("appendfsync", fsync);
    conf.directive(
        "save",
        if persistence.rdb {
            SNAPSHOT_INTERVALS
        } else {
            ""
        },
    );
}

fn text(path: &Path) -> Result<&str, RenderError> {
    path.to_str()
        .ok_or_else(|| RenderError::PathNotText(path.to_owned()))
}

/// What `redis.conf` includes from a file of its own: whom a replica logs in as, and with what.
/// To be written with 0600, or as a Secret.
pub fn replication_auth(password: &Secret) -> Result<Secret, RenderError> {
    if password.is_empty() {
        return Err(RenderError::EmptyPassword(REPLICATION_USER.to_owned()));
    }
    let mut conf = Conf::default();
    conf.directive(REPLICATION_USER_DIRECTIVE, REPLICATION_USER);
    conf.directive(REPLICATION_PASSWORD_DIRECTIVE, password.expose());
    Ok(Secret::new(conf.0))
}

/// What the user may do that servers log in as at each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replication {
    /// Copy from a primary.
    Copies,
    /// And move slots by the engine's own move. Only for Valkey 9.0 and later: other servers do not start with these
    /// rights in their ACL file.
    CopiesAndMoves,
}

impl Replication {
    /// What a server of this engine and major version can be given.
    pub fn of(valkey: bool, major: u32) -> Self {
        if valkey && major >= FIRST_TO_MOVE {
            Self::CopiesAndMoves
        } else {
            Self::Copies
        }
    }
}

/// The first Valkey that moves slots by itself.
const FIRST_TO_MOVE: u32 = 9;

/// `users.acl`, the same for all nodes: a line for each user, passwords as SHA-256, no comments and
/// no blank lines (Redis 7.0 refuses both). `passwords` are by the name of the user; a user may
/// have one here and hashes in the document, and then any of them lets it in.
pub fn users_acl(
    cluster: &Cluster,
    passwords: &BTreeMap<String, Secret>,
    replication: Replication,
) -> Result<String, RenderError> {
    let missing: Vec<String> = cluster
        .users()
        .iter()
        .filter(|user| user.needs_password() && !passwords.contains_key(user.name()))
        .map(|user| user.name().to_owned())
        .collect();
    if !missing.is_empty() {
        return Err(RenderError::NoPassword(missing));
    }
    let mut lines = String::new();
    for user in cluster.users() {
        let password = passwords.get(user.name());
        if password.is_some_and(Secret::is_empty) {
            return Err(RenderError::EmptyPassword(user.name().to_owned()));
        }
        lines.push_str(&user_line(user, password));
        if user.name() == REPLICATION_USER && replication == Replication::CopiesAndMoves {
            for rule in slot_moving_rules() {
                lines.push(' ');
                lines.push_str(&rule);
            }
        }
        lines.push('\n');
    }
    Ok(lines)
}

fn user_line(user: &User, password: Option<&Secret>) -> String {
    let state = if user.rules.enabled { "on" } else { "off" };
    let mut words = vec!["user".to_owned(), user.name.clone(), state.to_owned()];
    if user.rules.without_password {
        words.push("nopass".to_owned());
    } else {
        let mut hashes: Vec<PasswordHash> = user.password_hashes.clone();
        hashes.extend(password.map(Secret::hash));
        hashes.sort();
        hashes.dedup();
        words.extend(hashes.iter().map(|hash| format!("#{}", hash.as_str())));
    }
    words.extend(user.rules.tokens.iter().cloned());
    words.join(" ")
}

/// Text of `redis.conf` being written.
#[derive(Default)]
struct Conf(String);

impl Conf {
    fn comment(&mut self, text: &str) {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        writeln!(self.0, "{gap}# {text}").expect("writing to a String cannot fail");
    }

    fn directive(&mut self, key: &str, value: &str) {
        let value = quote(value);
        writeln!(self.0, "{key} {value}").expect("writing to a String cannot fail");
    }
}
