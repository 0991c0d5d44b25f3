//! What breaks: processes, Kubernetes nodes, the API server. All but the pods' own faults need the
//! machine the Kubernetes runs on; where that is another one, the cases that need it say so.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::error::ensure;
use crate::servers::Pod;
use crate::{Error, Kube, Result};

/// Where `make kubernetes` keeps the pids of its programs.
const RUN: &str = "/run/local-kubernetes";
/// The kubectl of the Kubernetes that `make kubernetes` starts.
pub const KUBECTL: &str = "/var/lib/local-kubernetes/bin/kubectl";
/// The address its API server has.
const SERVER: &str = "https://10.200.0.1:6443";

/// The machine that a Kubernetes of `make kubernetes` runs on.
#[derive(Clone, Copy, Debug)]
pub struct Machine(());

impl Machine {
    /// This machine, where the Kubernetes runs on it and we may kill there.
    #[must_use]
    pub fn of(kube: &Kube) -> Option<Self> {
        let ours = kube.server.starts_with(SERVER) && Path::new(RUN).is_dir();
        (ours && rustix::process::geteuid().is_root()).then_some(Self(()))
    }

    /// Kills the server's process in a pod (-9), as the kernel's memory killer would.
    pub fn kill_server(self, pod: &Pod) -> Result<()> {
        self.kill_container(&pod.container)
    }

    /// Kills the first process of a container (-9).
    pub fn kill_container(self, container: &str) -> Result<()> {
        let pid = first_process(container)?;
        signal(pid, Signal::KILL)
    }

    /// Memory in use by the first process of a container, in bytes.
    pub fn resident_bytes(self, container: &str) -> Result<u64> {
        let pid = first_process(container)?;
        let path = format!("/proc/{}/status", pid.as_raw_nonzero());
        let status = fs::read_to_string(&path).map_err(Error::io(format!("read {path}")))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.split_whitespace().next());
        let kib = kib.and_then(|kib| kib.parse::<u64>().ok());
        kib.map(|kib| kib * 1024)
            .ok_or_else(|| Error::Wrong(format!("{path} tells no VmRSS")))
    }

    /// Cuts a Kubernetes node off the network until the guard is dropped.
    pub fn cut(self, host: &str) -> Result<Cut> {
        let number = host.strip_prefix("node-").unwrap_or(host);
        let cut = Cut {
            link: format!("kn{number}"),
        };
        link(&cut.link, "down")?;
        Ok(cut)
    }

    /// Lets a Kubernetes node give this address next, if it is free.
    pub fn give_next(self, host: &str, address: &str) -> Result<()> {
        let next: Ipv4Addr = address
            .parse()
            .map_err(|_| Error::Wrong(format!("{address:?} is no address of a pod")))?;
        let last = Ipv4Addr::from_bits(next.to_bits().saturating_sub(1));
        let path = format!("/var/lib/local-kubernetes/{host}/ipam/pods/last_reserved_ip.0");
        fs::write(&path, last.to_string()).map_err(Error::io(format!("write {path}")))
    }

    /// Stops a program of the Kubernetes (`kube-apiserver`, `kubelet-1`) until the guard is dropped.
    pub fn freeze(self, program: &str) -> Result<Frozen> {
        let path = PathBuf::from(RUN).join(format!("{program}.pid"));
        let text =
            fs::read_to_string(&path).map_err(Error::io(format!("read {}", path.display())))?;
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Error::Wrong(format!("{} holds no pid", path.display())))?;
        signal(pid, Signal::STOP)?;
        Ok(Frozen { pid })
    }
}

/// A Kubernetes node that is cut off; back when this is dropped.
#[derive(Debug)]
#[must_use = "the node is back as soon as this is dropped"]
pub struct Cut {
    link: String,
}

impl Drop for Cut {
    fn drop(&mut self) {
        // Whoever needs the node back sees that it is not.
        link(&self.link, "up").ok();
    }
}

/// A program that is stopped; goes on when this is dropped.
#[derive(Debug)]
#[must_use = "the program goes on as soon as this is dropped"]
pub struct Frozen {
    pid: Pid,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        signal(self.pid, Signal::CONT).ok();
    }
}

fn signal(pid: Pid, signal: Signal) -> Result<()> {
    let what = format!("send {signal:?} to process {}", pid.as_raw_nonzero());
    kill_process(pid, signal).map_err(|e| Error::io(what)(e.into()))
}

fn link(name: &str, state: &str) -> Result<()> {
    let what = format!("ip link set {name} {state}");
    let done = Command::new("ip")
        .args(["link", "set", name, state])
        .output();
    let done = done.map_err(Error::io(&what))?;
    ensure(done.status.success(), || {
        format!("{what}: {}", String::from_utf8_lossy(&done.stderr).trim())
    })
}

/// The process that is number 1 in a container: the only one of its control group that says so.
fn first_process(container: &str) -> Result<Pid> {
    let id = container.rsplit("://").next().unwrap_or(container);
    ensure(!id.is_empty(), || {
        "the container does not run yet".to_owned()
    })?;
    let processes = fs::read_dir("/proc").map_err(Error::io("list the processes"))?;
    for process in processes.flatten() {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // A process that ended meanwhile has no files: it is not the one.
        let Ok(group) = fs::read_to_string(process.path().join("cgroup")) else {
            continue;
        };
        let Ok(status) = fs::read_to_string(process.path().join("status")) else {
            continue;
        };
        let first = status
            .lines()
            .find_map(|line| line.strip_prefix("NSpid:"))
            .is_some_and(|pids| pids.split_whitespace().last() == Some("1"));
        if group.contains(id)
            && first
            && let Some(pid) = Pid::from_raw(pid)
        {
            return Ok(pid);
        }
    }
    Error::wrong(format!(
        "no process of this machine is the first of container {id}"
    ))
}
