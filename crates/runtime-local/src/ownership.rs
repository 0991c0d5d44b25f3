//! Which local cluster a running server belongs to, by what it says of itself.

use std::path::{Path, PathBuf};

use crate::local::PROCESS;
use crate::process::Identity;
use crate::state::State;

/// The file with which each of our servers is started, in `DIR/nodes/NAME`.
const CONFIG: &str = "redis.conf";

/// The state directory of the local cluster to which a server belongs that was started with this configuration file and
/// runs as this process; `None` where it is no server of a cluster of this machine that we may read. What it says is
/// believed only where the directory says the same: its record of the process that it started, which still lives.
pub fn state_dir_of(config_file: &Path, pid: i32) -> Option<PathBuf> {
    if config_file.file_name()? != CONFIG {
        return None;
    }
    let server_dir = config_file.parent()?;
    let name = server_dir.file_name()?.to_str()?;
    let nodes = server_dir.parent()?;
    if nodes.file_name()? != "nodes" {
        return None;
    }
    let dir = nodes.parent()?;
    // A directory of others, or of another machine, is none of ours: then its runs are told by their connections.
    let state = State::read(dir).ok()??;
    let process = Identity::read(&server_dir.join(PROCESS)).ok()??;
    let ours = state.servers.contains_key(name) && process.pid == pid && process.lives();
    ours.then(|| dir.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_server_is_ours_where_its_directory_says_so() -> Result<(), Box<dyn std::error::Error>> {
        let root = tempfile::tempdir()?;
        let dir = root.path().join("c");
        let server = dir.join("nodes/c-0");
        fs::create_dir_all(&server)?;
        let me = i32::try_from(std::process::id())?;
        let config = server.join("redis.conf");
        assert_eq!(state_dir_of(&config, me), None, "no cluster is there");
        let state = r#"{"version":1,"name":"c","engine":"/x","formed":null,"servers":{"c-0":{"index":0,"port":7000,"node":null}}}"#;
        fs::write(dir.join("cluster.json"), state)?;
        assert_eq!(state_dir_of(&config, me), None, "no process is recorded");
        let myself = Identity::of(me).ok_or("this process lives")?;
        fs::write(server.join(PROCESS), serde_json::to_string(&myself)?)?;
        assert_eq!(state_dir_of(&config, me), Some(dir.clone()));
        assert_eq!(state_dir_of(&config, me + 1), None, "another process");
        assert_eq!(state_dir_of(&server.join("other.conf"), me), None);
        assert_eq!(state_dir_of(Path::new("redis.conf"), me), None);
        assert_eq!(state_dir_of(&dir.join("nodes/c-9/redis.conf"), me), None);
        Ok(())
    }
}
