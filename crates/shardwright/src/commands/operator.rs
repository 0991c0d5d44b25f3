//! `operator`: the process that keeps the clusters declared on Kubernetes.

use anyhow::Context;
use shardwright_operator::install::{LEASE, NAMESPACE};
use shardwright_operator::{Config, run as operate};

use crate::cli::{KubeArgs, OperatorArgs};
use crate::exit::ExitStatus;
use crate::kubernetes::client;
use crate::stop::stop;

pub(super) async fn run(args: OperatorArgs, kube: &KubeArgs) -> anyhow::Result<ExitStatus> {
    let from = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
    let lease_namespace = args
        .lease_namespace
        .or_else(|| from("POD_NAMESPACE"))
        .or_else(|| args.namespace.first().cloned())
        .unwrap_or_else(|| NAMESPACE.to_owned());
    let config = Config {
        namespaces: args.namespace,
        concurrency: usize::from(args.concurrency),
        admin: args.admin_addr,
        lease_namespace,
        lease: LEASE.to_owned(),
        own_namespace: from("POD_NAMESPACE"),
        identity: from("POD_NAME").unwrap_or_else(of_this_process),
    };
    let client = client(kube).await?;
    let asked = stop().context("cannot listen to signals")?;
    operate(config, client, asked).await?;
    Ok(ExitStatus::Success)
}

/// A name that no other process has at this time: the machine's and the process id.
fn of_this_process() -> String {
    // Only a name: without a host name the process id still tells processes of one machine apart.
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unnamed".to_owned(), |name| name.trim().to_owned());
    format!("{host}_{}", std::process::id())
}
