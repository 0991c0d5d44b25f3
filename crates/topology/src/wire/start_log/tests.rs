//! What the engines write before they end at their start, each in its own words.

use super::why_not_started;
use crate::{ConfigLine, WhyNotStarted};

const PID: i32 = 4211;

fn why(log: &str) -> Option<WhyNotStarted> {
    why_not_started(log, PID)
}

fn corrupt_aof(file: &str, said: &str) -> WhyNotStarted {
    WhyNotStarted::CorruptAof {
        file: Some(file.to_owned()),
        said: said.to_owned(),
    }
}

fn corrupt_rdb(said: &str) -> WhyNotStarted {
    WhyNotStarted::CorruptRdb {
        said: said.to_owned(),
    }
}

fn too_new(format: u32) -> WhyNotStarted {
    WhyNotStarted::RdbTooNew { format }
}

fn not_permitted(said: &str) -> WhyNotStarted {
    WhyNotStarted::NotPermitted {
        said: said.to_owned(),
    }
}

fn no_space(said: &str) -> WhyNotStarted {
    WhyNotStarted::NoSpace {
        said: said.to_owned(),
    }
}

/// A run as Redis 7.0 writes it, up to these messages.
fn redis_7_0(messages: &[&str]) -> String {
    let head = [
        "oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo",
        "Redis version=7.0.15, bits=64, commit=00000000, modified=0, pid=4211, just started",
        "Configuration loaded",
    ];
    let line = |role: &str, text: &str| format!("{PID}:{role} 30 Nov 2026 11:48:50.123 # {text}\n");
    let head: String = head.iter().map(|text| line("C", text)).collect();
    let rest: String = messages.iter().map(|text| line("M", text)).collect();
    head + "4211:M 30 Nov 2026 11:48:50.124 * monotonic clock: POSIX clock_gettime\n" + &rest
}

/// The same of Redis 7.4 and 8, and of Valkey, which tell their start on another level.
fn valkey(messages: &[&str]) -> String {
    let head = [
        "oO0OoO0OoO0Oo Valkey is starting oO0OoO0OoO0Oo",
        "Valkey version=8.0.6, bits=64, commit=00000000, modified=0, pid=4211, just started",
        "Configuration loaded",
        "monotonic clock: POSIX clock_gettime",
        "Server initialized",
    ];
    let line =
        |level: &str, text: &str| format!("{PID}:M 30 Nov 2026 11:48:50.123 {level} {text}\n");
    let head: String = head.iter().map(|text| line("*", text)).collect();
    let rest: String = messages.iter().map(|text| line("#", text)).collect();
    head + &rest
}

#[test]
fn a_bad_directive_is_named_with_its_line() {
    for engine in ["Redis 7.0.15", "Redis 8.2.1", "Version 9.1.2"] {
        let before = redis_7_0(&["User requested shutdown..."]);
        let log = format!(
            "{before}\n*** FATAL CONFIG FILE ERROR ({engine}) ***\nReading the configuration file, at line 31\n>>> 'maxmemory-polic \"noeviction\"'\nBad directive or wrong number of arguments\n"
        );
        let found = why(&log);
        let line = ConfigLine {
            number: 31,
            text: "maxmemory-polic \"noeviction\"".to_owned(),
        };
        let said = "Bad directive or wrong number of arguments".to_owned();
        let line = Some(line);
        assert_eq!(found, Some(WhyNotStarted::BadConfig { line, said }));
        // A later run got further.
        let later = log + "4300:C 30 Nov 2026 12:00:00.001 # Configuration loaded\n";
        assert_eq!(why(&later), None);
    }
}

#[test]
fn a_configuration_may_be_refused_as_a_whole_or_by_the_system() {
    let log = "\n*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***\nreplicaof directive not allowed in cluster mode\n";
    let said = "replicaof directive not allowed in cluster mode".to_owned();
    let line = None;
    assert_eq!(why(log), Some(WhyNotStarted::BadConfig { line, said }));
    let log = "\n*** FATAL CONFIG FILE ERROR (Version 8.0.6) ***\nReading the configuration file, at line 5\n>>> 'dir /srv/c-0/data'\nPermission denied\n";
    assert_eq!(
        why(log),
        Some(not_permitted("dir /srv/c-0/data: Permission denied"))
    );
}

#[test]
fn a_damaged_append_only_file_is_named() {
    let incr = "appendonly.aof.1.incr.aof";
    let fix =
        "make a backup of your AOF file, then use ./redis-check-aof --fix <filename.manifest>";
    let bad = format!("Bad file format reading the append only file {incr}: {fix}");
    for log in [redis_7_0(&[&bad]), valkey(&[&bad])] {
        assert_eq!(why(&log), Some(corrupt_aof(incr, "Bad file format")));
    }
    let cut = format!(
        "Unexpected end of file reading the append only file {incr}. You can: 1) Make a backup of your AOF file, then use ./valkey-check-aof --fix <filename.manifest>."
    );
    assert_eq!(
        why(&valkey(&[&cut])),
        Some(corrupt_aof(incr, "Unexpected end of file"))
    );
    let unknown = format!("Unknown command 'HPEXPIREAT' reading the append only file {incr}");
    assert_eq!(
        why(&redis_7_0(&[&unknown])),
        Some(corrupt_aof(incr, "Unknown command 'HPEXPIREAT'"))
    );
    // An error of reading tells nothing of what is in it.
    let io = format!("Unrecoverable error reading the append only file {incr}: Input/output error");
    assert_eq!(why(&redis_7_0(&[&io])), None);
}

#[test]
fn a_damaged_base_or_manifest_of_the_log_is_told_from_an_rdb_file() {
    let base = "appendonly.aof.1.base.rdb";
    let messages = [
        "Short read or OOM loading DB. Unrecoverable error, aborting now.",
        "Internal error in RDB reading offset 0, function at rdb.c:3232 -> Unexpected EOF reading RDB file. Failure loading rdb format from socket, assuming connection error, resuming operation.",
        "Error reading the RDB base file appendonly.aof.1.base.rdb, AOF loading aborted",
    ];
    assert_eq!(
        why(&redis_7_0(&messages)),
        Some(corrupt_aof(base, "Error reading the RDB base file"))
    );
    let missing = "Fatal error: can't open the append log file appendonly.aof.1.base.rdb for reading: No such file or directory";
    assert_eq!(
        why(&valkey(&[missing])),
        Some(corrupt_aof(base, "No such file or directory"))
    );
    // The manifest's faults are told in lines of their own, some without a number of a process.
    let log = redis_7_0(&[
        "\n*** FATAL AOF MANIFEST FILE ERROR ***\n",
        "Reading the manifest file, at line 1\n",
        ">>> 'fil appendonly.aof.1.base.rdb seq 1 type b'\n",
        "Invalid AOF manifest file format\n",
    ]);
    let said = "Invalid AOF manifest file format".to_owned();
    let file = None;
    assert_eq!(why(&log), Some(WhyNotStarted::CorruptAof { file, said }));
}

#[test]
fn a_damaged_rdb_file_is_told() {
    let short = "Short read or OOM loading DB. Unrecoverable error, aborting now.";
    let log = redis_7_0(&[
        short,
        "Internal error in RDB reading offset 0, function at rdb.c:2284 -> Unexpected EOF reading RDB file",
        "Terminating server after rdb file reading failure.",
    ]) + "[offset 0] Checking RDB file dump.rdb\n--- RDB ERROR DETECTED ---\n[offset 9] Unexpected EOF reading RDB file\n";
    assert_eq!(why(&log), Some(corrupt_rdb(short)));
    let log = valkey(&[
        "Internal error in RDB reading offset 112, function at rdb.c:515 -> Unknown RDB string encoding type 32",
        "Terminating server after rdb file reading failure.",
    ]);
    assert_eq!(
        why(&log),
        Some(corrupt_rdb("Unknown RDB string encoding type 32"))
    );
    let log = valkey(&[
        "Wrong signature trying to load DB from file",
        "Fatal error loading the DB, check server logs. Exiting.",
    ]);
    assert_eq!(
        why(&log),
        Some(corrupt_rdb("Wrong signature trying to load DB from file"))
    );
    // What lacks memory may load at another time, be it the base of a log.
    let as_base = [
        "Internal error in RDB reading offset 0, function at rdb.c:2173 -> OOM in dictTryExpand 5",
        "Error reading the RDB base file appendonly.aof.1.base.rdb, AOF loading aborted",
    ];
    assert_eq!(why(&redis_7_0(&as_base)), None);
    let log = valkey(&[
        "Internal error in RDB reading offset 0, function at rdb.c:2173 -> OOM in dictTryExpand 5",
        "Terminating server after rdb file reading failure.",
    ]);
    assert_eq!(why(&log), None);
}

#[test]
fn a_file_of_a_newer_engine_is_told_by_its_version() {
    let new = "Can't handle RDB format version 11";
    let of_7_0 = [
        new,
        "Fatal error loading the DB: Invalid argument. Exiting.",
    ];
    assert_eq!(why(&redis_7_0(&of_7_0)), Some(too_new(11)));
    let of_8 = [
        "Can't handle RDB format version 80",
        "Fatal error loading the DB, check server logs. Exiting.",
    ];
    assert_eq!(why(&valkey(&of_8)), Some(too_new(80)));
    let as_base = [
        new,
        "Error reading the RDB base file appendonly.aof.1.base.rdb, AOF loading aborted",
    ];
    assert_eq!(why(&redis_7_0(&as_base)), Some(too_new(11)));
}

#[test]
fn a_port_that_is_taken_is_told_in_both_libraries_words() {
    for system in ["Address already in use", "Address in use"] {
        let warning = format!(
            "Warning: Could not create server TCP listening socket 127.0.0.1:17000: bind: {system}"
        );
        let log = valkey(&[
            &warning,
            "Failed listening on port 17000 (cluster), aborting.",
        ]);
        let port = 17_000;
        assert_eq!(why(&log), Some(WhyNotStarted::PortInUse { port }));
    }
    let denied =
        "Warning: Could not create server TCP listening socket *:80: bind: Permission denied";
    let log = redis_7_0(&[denied, "Failed listening on port 80 (TCP), aborting."]);
    assert_eq!(why(&log), Some(not_permitted(denied)));
    // An address that this machine has not is none of these.
    let away = "Warning: Could not create server TCP listening socket 10.9.8.7:7000: bind: Cannot assign requested address";
    assert_eq!(why(&redis_7_0(&[away])), None);
}

#[test]
fn a_full_disk_and_a_closed_directory_are_told() {
    let full = "Can't open or create append-only dir appendonlydir: No space left on device";
    assert_eq!(why(&valkey(&[full])), Some(no_space(full)));
    let full =
        "Failed after writing (-1) bytes to tmp cluster config file: No space left on device";
    let log = valkey(&[full, "Fatal: can't update cluster config file."]);
    assert_eq!(why(&log), Some(no_space(full)));
    let denied = "Can't open nodes.conf in order to acquire a lock: Permission denied";
    assert_eq!(why(&redis_7_0(&[denied])), Some(not_permitted(denied)));
    let denied = "Fatal error loading the DB: Permission denied. Exiting.";
    assert_eq!(why(&redis_7_0(&[denied])), Some(not_permitted(denied)));
    let fixed = "Can't open or create append-only dir appendonlydir: Read-only file system";
    assert_eq!(why(&valkey(&[fixed])), Some(not_permitted(fixed)));
}

#[test]
fn users_and_tables_that_are_refused_are_told() {
    for name in ["Redis", "Valkey"] {
        let rest = "/srv/c-0/users.acl:4: Error in applying operation '+@nonsense': Unknown command or category name in ACL.";
        let said = format!("Aborting {name} startup because of ACL errors: {rest}");
        let said_alone = rest.to_owned();
        let expected = WhyNotStarted::BadUsers { said: said_alone };
        assert_eq!(why(&valkey(&[&said])), Some(expected));
    }
    for refused in [
        "Unrecoverable error: corrupted cluster config file.",
        "Unrecoverable error: corrupted cluster config file \"myself,replica\".",
    ] {
        assert_eq!(
            why(&redis_7_0(&[refused])),
            Some(WhyNotStarted::TableRefused)
        );
    }
    // Valkey 9.1 ends by a crash, which it reports at length.
    let panic = "Guru Meditation: Unrecoverable error: corrupted cluster config file \"no table\n\". #cluster_legacy.c:899";
    let mut crash = vec![
        "------------------------------------------------",
        "!!! Software Failure. Press left mouse button to continue",
        panic,
    ];
    crash.extend(["valkey 9.1.2 crashed by signal: 11, si_code: 1"; 12]);
    assert_eq!(why(&valkey(&crash)), Some(WhyNotStarted::TableRefused));
}

#[test]
fn only_the_last_words_of_this_process_before_it_serves_count() {
    let bad = "Bad file format reading the append only file appendonly.aof.1.incr.aof: make a backup of your AOF file";
    // Another process said it.
    assert_eq!(why_not_started(&redis_7_0(&[bad]), PID + 1), None);
    assert_eq!(why_not_started(&redis_7_0(&[bad]), 421), None);
    // It served, and what it said before it did was of an earlier process of the same number.
    let served = valkey(&[bad]) + &valkey(&["Ready to accept connections tcp"]);
    assert_eq!(why(&served), None);
    assert_eq!(why(&(valkey(&[bad]) + &valkey(&["something else"]))), None);
    // It did not, whatever an earlier process of the same number did.
    let failed = valkey(&["Ready to accept connections tcp"]) + &valkey(&[bad]);
    assert!(why(&failed).is_some());
    // The begin of its run is further back, or was not written (`loglevel warning`): it may have served.
    let whole = valkey(&[bad]);
    let (_, tail) = whole.split_once("just started\n").expect("it begins");
    assert_eq!(why(tail), None);
    // It went on for long after it.
    let mut messages = vec![bad];
    messages.extend(["something else"; 6]);
    assert_eq!(why(&valkey(&messages)), None);
    assert_eq!(why(""), None);
    // Valkey's other format.
    let line = |text: &str| {
        format!(
            "pid=4211 role=primary timestamp=\"30 Nov 2026 11:48:50.123\" level=warning message=\"{text}\"\n"
        )
    };
    let log =
        line("Valkey version=9.1.2, bits=64, modified=0, pid=4211, just started") + &line(bad);
    assert_eq!(
        why(&log),
        Some(corrupt_aof("appendonly.aof.1.incr.aof", "Bad file format"))
    );
}
