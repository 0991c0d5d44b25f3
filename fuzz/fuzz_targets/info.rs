//! `INFO`, `CLUSTER INFO` and `CLUSTER MYID`: any bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shardwright_topology::SLOT_COUNT;
use shardwright_topology::wire::{parse_cluster_info, parse_my_id, parse_server_info};

fuzz_target!(|bytes: &[u8]| {
    if let Err(error) = parse_server_info(bytes) {
        assert!(!error.to_string().is_empty());
    }
    match parse_cluster_info(bytes) {
        Ok(info) => assert!(info.slots_assigned <= SLOT_COUNT),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Err(error) = parse_my_id(bytes) {
        assert!(!error.to_string().is_empty());
    }
});
