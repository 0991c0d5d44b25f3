//! Whatever the bytes, an answer or an error.

use proptest::prelude::*;
use shardwright_topology::wire::{
    Reply, parse_cluster_info, parse_my_id, parse_nodes, parse_role, parse_server_info,
    parse_shards, why_not_started,
};

use super::{ENGINES, resp, sample};

/// Reads the bytes by every parser, and every error's text. That it comes back is the test.
fn read_all(bytes: &[u8]) -> usize {
    let errors = [
        parse_nodes(bytes).err(),
        parse_cluster_info(bytes).err(),
        parse_my_id(bytes).err(),
        parse_server_info(bytes).err(),
    ];
    let texts = errors
        .iter()
        .flatten()
        .map(|e| e.to_string().len())
        .sum::<usize>();
    let log = String::from_utf8_lossy(bytes);
    let told = why_not_started(&log, 7).map_or(0, |why| why.to_string().len());
    texts + told + resp::read(bytes).iter().map(read_reply).sum::<usize>()
}

fn read_reply(reply: &Reply) -> usize {
    let errors = [parse_shards(reply).err(), parse_role(reply).err()];
    errors.iter().flatten().map(|e| e.to_string().len()).sum()
}

fn any_reply() -> impl Strategy<Value = Reply> {
    let words = [
        "slots",
        "nodes",
        "id",
        "ip",
        "endpoint",
        "hostname",
        "port",
        "tls-port",
        "role",
        "health",
        "replication-offset",
        "master",
        "slave",
        "replica",
        "online",
        "fail",
        "loading",
        "-1",
        "e32dcce8dbed8256b33552258eea37f0c738d609",
    ];
    let leaf = prop_oneof![
        Just(Reply::Nil),
        any::<i64>().prop_map(Reply::Int),
        (0..20_000_i64).prop_map(Reply::Int),
        prop::collection::vec(any::<u8>(), 0..12).prop_map(Reply::Text),
        prop::sample::select(words.to_vec()).prop_map(|w| Reply::Text(w.into())),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Reply::List),
            prop::collection::vec((inner.clone(), inner), 0..8).prop_map(Reply::Map),
        ]
    })
}

/// An edit of a text: where (in thousandths), how much is cut, and what is put there.
type Edit = (usize, usize, Vec<u8>);

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let put = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..4),
        prop::sample::select(vec![
            " ",
            "\n",
            ",",
            ":",
            "@",
            "-",
            "[",
            "]",
            "[1->-",
            "65536",
            "16384",
            "0-0",
            "?",
            "=",
            "99999999999999999999",
            "*3\r\n",
            "$-1\r\n",
            "myself,",
            "é",
        ])
        .prop_map(|s| s.as_bytes().to_vec()),
    ];
    prop::collection::vec((0..1000_usize, 0..30_usize, put), 1..6)
}

fn edit(mut text: Vec<u8>, edits: Vec<Edit>) -> Vec<u8> {
    for (place, cut, put) in edits {
        let from = text.len() * place / 1000;
        let to = (from + cut).min(text.len());
        text.splice(from..to, put);
    }
    text
}

const SAMPLES: [&str; 9] = [
    "nodes-formed",
    "nodes-open-0",
    "nodes-noaddr",
    "nodes-conf",
    "nodes-ipv6",
    "info-primary",
    "info-replica",
    "cinfo-formed",
    "shards-resp3",
];

/// What an engine may write before it ends, in parts.
const LOG: &str = "
*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***
Reading the configuration file, at line 31
>>> 'maxmemory-polic noeviction'
7:M 30 Nov 2026 11:48:50.123 # Bad file format reading the append only file a.incr.aof: make a backup
7:M 30 Nov 2026 11:48:50.123 # Can't handle RDB format version 11
7:M 30 Nov 2026 11:48:50.123 # Warning: Could not create server TCP listening socket *:80: bind: Permission denied
pid=7 role=primary level=warning message=\"Internal error in RDB reading offset 0, function at rdb.c:1 -> OOM\"
";

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        read_all(&bytes);
    }

    #[test]
    fn any_words(words in "[ \r\n,:@=#a-z0-9\\[\\]<>-]{0,300}") {
        read_all(words.as_bytes());
    }

    #[test]
    fn any_nesting(reply in any_reply()) {
        read_reply(&reply);
    }

    #[test]
    fn edited_logs(from in 0..9_usize, edits in edits()) {
        let lines: Vec<&str> = LOG.lines().skip(from).collect();
        read_all(&edit(lines.join("\n").into_bytes(), edits));
    }

    #[test]
    fn edited_samples(
        engine in prop::sample::select(ENGINES.to_vec()),
        name in prop::sample::select(SAMPLES.to_vec()),
        edits in edits(),
    ) {
        let text = sample(engine, name).map_err(|e| TestCaseError::fail(e.to_string()))?;
        read_all(&edit(text, edits));
    }
}
