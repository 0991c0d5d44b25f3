//! Memory, processor time and disk.

use std::collections::BTreeMap;

use crate::config;
use crate::document::{RedisClusterSpec, ResourceAmounts, ResourcesSpec};
use crate::limits::STORAGE_BYTES_MIN;
use crate::problem::{Findings, field};
use crate::quantity::{Quantity, QuantityError};

/// The disk a node needs, in multiples of `maxmemory`: the append-only file, its rewrite beside it
/// and a snapshot.
const STORAGE_PER_MAXMEMORY: u64 = 3;

/// All amounts of a node.
pub(crate) struct Sizes {
    pub(crate) storage_bytes: Option<u64>,
    pub(crate) memory_limit_bytes: Option<u64>,
    pub(crate) memory_request_bytes: Option<u64>,
    pub(crate) cpu_limit_milli: Option<u64>,
    pub(crate) cpu_request_milli: Option<u64>,
}

pub(crate) fn check(
    spec: &RedisClusterSpec,
    config: &BTreeMap<String, String>,
    out: &mut Findings,
) -> Sizes {
    let ResourcesSpec { limits, requests } = &spec.resources;
    let storage = spec.storage.as_ref().map(|storage| &storage.size);
    let storage_bytes = amount("spec.storage.size", storage, Quantity::bytes, out);
    check_storage(storage, storage_bytes, out);
    let (memory_limit_bytes, cpu_limit_milli) = amounts("spec.resources.limits", limits, out);
    let (memory_request_bytes, cpu_request_milli) =
        amounts("spec.resources.requests", requests, out);
    let sizes = Sizes {
        storage_bytes,
        memory_limit_bytes,
        memory_request_bytes,
        cpu_limit_milli,
        cpu_request_milli,
    };
    let exceeds = |request: Option<u64>, limit: Option<u64>| {
        request
            .zip(limit)
            .is_some_and(|(request, limit)| request > limit)
    };
    if exceeds(sizes.memory_request_bytes, sizes.memory_limit_bytes) {
        out.problem(
            "spec.resources.requests.memory",
            "is more than spec.resources.limits.memory",
        );
    }
    if exceeds(sizes.cpu_request_milli, sizes.cpu_limit_milli) {
        out.problem(
            "spec.resources.requests.cpu",
            "is more than spec.resources.limits.cpu",
        );
    }
    check_memory(spec, &sizes, config, out);
    sizes
}

/// A number without a unit is bytes, which nobody means.
fn check_storage(given: Option<&Quantity>, bytes: Option<u64>, out: &mut Findings) {
    if let (Some(given), Some(bytes)) = (given, bytes)
        && bytes < STORAGE_BYTES_MIN
    {
        let text = given.as_str();
        let message = if text.bytes().all(|b| b.is_ascii_digit()) {
            format!("is {text} bytes: did you mean {text}Gi?")
        } else {
            format!("is {text}: a node needs 1Mi at least")
        };
        out.problem("spec.storage.size", message);
    }
}

fn check_memory(
    spec: &RedisClusterSpec,
    sizes: &Sizes,
    config: &BTreeMap<String, String>,
    out: &mut Findings,
) {
    let limit = sizes.memory_limit_bytes;
    if limit.is_some_and(|bytes| bytes < config::MEMORY_LIMIT_BYTES_MIN) {
        out.problem(
            "spec.resources.limits.memory",
            "is too small: a node needs 64Mi at least, of which its data may have half",
        );
    }
    let given = config
        .get("maxmemory")
        .and_then(|value| config::memory(value));
    let derived = limit.map(config::maxmemory_for);
    if let (Some(given), Some(limit), Some(derived)) = (given, limit, derived) {
        let path = "spec.config.maxmemory";
        if given == 0 {
            out.problem(path, "is 0, no bound, though spec.resources.limits.memory is one: a node would be killed before it is full");
        } else if given > limit {
            out.problem(
                path,
                format!("is more than spec.resources.limits.memory ({limit} bytes): a node would be killed before it is full"),
            );
        } else if given > derived {
            out.warning(
                path,
                format!("leaves less than a quarter of the memory limit free: a node may be killed while it writes a snapshot; {derived} would be safe"),
            );
        }
    }
    let maxmemory = given.or(derived).filter(|bytes| *bytes > 0);
    let on_disk = spec.persistence.aof || spec.persistence.rdb;
    if let (true, Some(storage), Some(maxmemory)) = (on_disk, sizes.storage_bytes, maxmemory) {
        let wanted = maxmemory.saturating_mul(STORAGE_PER_MAXMEMORY);
        if storage < wanted {
            out.warning(
                "spec.storage.size",
                format!(
                    "is {storage} bytes, less than three times maxmemory ({maxmemory} bytes): the disk may fill up while the append-only file is rewritten; {wanted} bytes ({}) would do",
                    in_mebibytes(wanted),
                ),
            );
        }
    }
}

fn in_mebibytes(bytes: u64) -> String {
    format!("{}Mi", bytes.div_ceil(1 << 20))
}

/// Memory in bytes, and processor time in thousandths of a processor.
fn amounts(path: &str, given: &ResourceAmounts, out: &mut Findings) -> (Option<u64>, Option<u64>) {
    let (memory, cpu) = (given.memory.as_ref(), given.cpu.as_ref());
    (
        amount(&field(path, "memory"), memory, Quantity::bytes, out),
        amount(&field(path, "cpu"), cpu, Quantity::milli, out),
    )
}

fn amount(
    path: &str,
    quantity: Option<&Quantity>,
    read: impl Fn(&Quantity) -> Result<u64, QuantityError>,
    out: &mut Findings,
) -> Option<u64> {
    match read(quantity?) {
        Ok(0) => {
            out.problem(path, "is 0: leave the field out where there is no bound");
            None
        }
        Ok(amount) => Some(amount),
        Err(error) => {
            let text: String = quantity?.as_str().chars().take(40).collect();
            out.problem(path, format!("{text:?} {error}"));
            None
        }
    }
}
