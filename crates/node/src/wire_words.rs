//! The one spot of this crate that spells the wire words of the engines.

/// The flag of a primary in `nodes.conf`, and the first word of its answer to `ROLE`.
pub(crate) const PRIMARY: &str = "master";

/// The flag of a replica in `nodes.conf`, and the first word of its answer to `ROLE`.
pub(crate) const REPLICA: &str = "slave";
