//! `CLUSTER NODES`: any bytes; and what was read holds together.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shardwright_topology::wire::parse_nodes;

fuzz_target!(|bytes: &[u8]| {
    match parse_nodes(bytes) {
        Ok(rows) => {
            assert!(rows.myself().is_some());
            assert!(rows.iter().is_sorted_by(|a, b| a.id < b.id));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
