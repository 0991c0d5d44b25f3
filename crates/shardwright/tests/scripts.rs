//! The simulator's scripts on real servers: they must end as they do on the model.

#[path = "scripts/real.rs"]
mod real;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use shardwright_sim::script;
use shardwright_testkit::engine;
use shardwright_testkit::skip::skipped;

use crate::real::Real;

/// How many scripts run at once: most of the time they wait.
const AT_ONCE: usize = 6;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sim/scripts")
}

/// The scripts, with the ends that the model gave them.
fn scripts() -> BTreeMap<String, (String, String)> {
    let mut scripts = BTreeMap::new();
    for entry in fs::read_dir(folder()).expect("the scripts are there") {
        let path = entry.expect("the scripts are there").path();
        if path.extension().is_some_and(|e| e == "txt") {
            let name = path
                .file_stem()
                .expect("it has a name")
                .to_string_lossy()
                .into_owned();
            let text = fs::read_to_string(&path).expect("it is readable");
            let end =
                fs::read_to_string(path.with_extension("out")).expect("the model has played it");
            let (_, told) = end
                .split_once(
                    "== told
",
                )
                .expect("what was told stands at its end");
            scripts.insert(name, (text, told.to_owned()));
        }
    }
    scripts
}

fn play_all(wanted: &str) {
    let engine = match engine(wanted) {
        Ok(engine) => engine,
        Err(why) => return skipped(&format!("scripts on {wanted}"), &why.to_string()),
    };
    let scripts = scripts();
    assert!(scripts.len() >= 20, "there are {} scripts", scripts.len());
    let todo = Mutex::new(scripts.into_iter().collect::<Vec<_>>());
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((name, (text, end))) = next(&todo) {
                    let told =
                        Real::new(&engine).and_then(|mut world| script::run(&text, &mut world));
                    if told.as_ref() != Ok(&end) {
                        let told = told.unwrap_or_else(|e| e);
                        wrong
                            .lock()
                            .expect("nobody panics")
                            .push(format!("{name}:\n{told}\nbut the model:\n{end}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("nobody panics");
    assert!(
        wrong.is_empty(),
        "{} scripts end otherwise:\n\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
}

fn next<T>(todo: &Mutex<Vec<T>>) -> Option<T> {
    todo.lock().expect("nobody panics").pop()
}

#[test]
fn scripts_end_alike_on_redis_7_0() {
    play_all("redis-7.0");
}

#[test]
fn scripts_end_alike_on_valkey_9_1() {
    play_all("valkey-9.1");
}
