//! `crd`: the definition of a `RedisCluster` for Kubernetes.

use shardwright_manifest::{Cel, crd};

use crate::cli::{CrdArgs, RulesFor};
use crate::exit::{ExitStatus, UsageError};
use crate::kubernetes::parse_version;
use crate::printer::Printer;
use crate::yaml;

/// The last version of Kubernetes without rules.
const WITHOUT_RULES: (u32, u32) = (1, 24);
/// Newer than any: all that there is.
const NEWEST: (u32, u32) = (u32::MAX, 0);

/// The version of Kubernetes (major, minor) that rules are for.
pub(super) fn version_for(rules: &RulesFor) -> Result<(u32, u32), UsageError> {
    match &rules.kubernetes {
        Some(text) => parse_version(text),
        None if rules.without_cel => Ok(WITHOUT_RULES),
        None => Ok(NEWEST),
    }
}

pub(super) fn run(args: &CrdArgs, out: &mut Printer) -> anyhow::Result<ExitStatus> {
    let definition = crd(Cel::of_version(version_for(&args.rules)?));
    if out.is_json() {
        out.document(&definition)?;
    } else {
        out.text(&yaml::documents([&definition])?)?;
    }
    Ok(ExitStatus::Success)
}
