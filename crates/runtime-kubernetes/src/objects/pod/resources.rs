//! What the containers ask for, and what they may take.

use k8s_openapi::api::core::v1::ResourceRequirements;
use shardwright_manifest::Cluster;

use super::some_map;
use crate::objects::quantity;

/// What it takes to copy the node program, in thousandths of a processor.
const INSTALL_CPU_MILLI: u64 = 50;
/// And in bytes.
const INSTALL_MEMORY_BYTES: u64 = 32 << 20;

/// An amount of one resource, in bytes or thousandths of a processor.
#[derive(Clone, Copy)]
struct Amount {
    request: Option<u64>,
    limit: Option<u64>,
}

impl Amount {
    /// What a container gets that runs before one with this, and needs so much. It asks for no more than that one, so that
    /// the pod as a whole asks for no more either. Where that one may take just what it asks for, so does this: else the
    /// pod would not be Guaranteed.
    fn before(self, need: u64) -> Self {
        // Without a request a limit is one.
        let asked = self.request.or(self.limit);
        let request = asked.map(|asked| asked.min(need));
        let limit = self.limit.map(|limit| {
            if asked == Some(limit) {
                limit.min(need)
            } else {
                need
            }
        });
        Self { request, limit }
    }
}

/// The server's.
pub(super) fn of_server(cluster: &Cluster) -> Option<ResourceRequirements> {
    requirements(memory(cluster), cpu(cluster))
}

/// Those of the container that brings the node program. Of what the server does not name it names nothing.
pub(super) fn of_install(cluster: &Cluster) -> Option<ResourceRequirements> {
    requirements(
        memory(cluster).before(INSTALL_MEMORY_BYTES),
        cpu(cluster).before(INSTALL_CPU_MILLI),
    )
}

fn memory(cluster: &Cluster) -> Amount {
    Amount {
        request: cluster.memory_request_bytes(),
        limit: cluster.memory_limit_bytes(),
    }
}

fn cpu(cluster: &Cluster) -> Amount {
    Amount {
        request: cluster.cpu_request_milli(),
        limit: cluster.cpu_limit_milli(),
    }
}

fn requirements(memory: Amount, cpu: Amount) -> Option<ResourceRequirements> {
    let amounts = |memory: Option<u64>, cpu: Option<u64>| {
        let memory = memory.map(|amount| ("memory".to_owned(), quantity::bytes(amount)));
        let cpu = cpu.map(|amount| ("cpu".to_owned(), quantity::milli(amount)));
        some_map(memory.into_iter().chain(cpu).collect())
    };
    let requirements = ResourceRequirements {
        limits: amounts(memory.limit, cpu.limit),
        requests: amounts(memory.request, cpu.request),
        claims: None,
    };
    (requirements != ResourceRequirements::default()).then_some(requirements)
}

#[cfg(test)]
mod tests {
    use super::Amount;

    #[test]
    fn what_runs_before_asks_for_no_more_and_changes_no_class() {
        for (request, limit, before) in [
            (None, None, (None, None)),
            (Some(100), Some(2000), (Some(32), Some(32))),
            (Some(20), Some(200), (Some(20), Some(32))),
            // Guaranteed, with a limit alone as well.
            (Some(64), Some(64), (Some(32), Some(32))),
            (None, Some(10), (Some(10), Some(10))),
            (Some(10), Some(10), (Some(10), Some(10))),
            (Some(10), None, (Some(10), None)),
        ] {
            let own = Amount { request, limit }.before(32);
            assert_eq!((own.request, own.limit), before, "{request:?} {limit:?}");
        }
    }
}
