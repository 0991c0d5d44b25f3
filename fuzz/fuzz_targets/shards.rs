//! `CLUSTER SHARDS` and `ROLE`: any replies of the servers' protocol.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shardwright_topology::wire::{parse_role, parse_shards};

#[path = "../../crates/topology/tests/wire/resp.rs"]
mod resp;

fuzz_target!(|bytes: &[u8]| {
    for reply in resp::read(bytes) {
        if let Err(error) = parse_shards(&reply) {
            assert!(!error.to_string().is_empty());
        }
        if let Err(error) = parse_role(&reply) {
            assert!(!error.to_string().is_empty());
        }
    }
});
