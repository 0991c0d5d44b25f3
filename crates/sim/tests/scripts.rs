//! The scripts, on the model: each must end as its `.out` says. `UPDATE=1` writes the files anew.

use std::fmt::Write as _;
use std::path::PathBuf;

use shardwright_sim::facts::Profile;
use shardwright_sim::{ModelWorld, script};

#[test]
fn scripts_end_as_written() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let mut scripts: Vec<PathBuf> = std::fs::read_dir(&dir)
        .expect("the scripts are there")
        .map(|entry| entry.expect("the directory can be read").path())
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .collect();
    scripts.sort();
    assert!(scripts.len() >= 20, "only {} scripts", scripts.len());
    let mut wrong = String::new();
    for path in scripts {
        let text = std::fs::read_to_string(&path).expect("a script can be read");
        let name = path.file_name().and_then(|n| n.to_str());
        let forms = name.is_some_and(|n| n.starts_with("form-"));
        let told = play(&text, forms, Profile::Redis70);
        let on_valkey = play(&text, forms, Profile::Valkey9);
        if ends(&told) != ends(&on_valkey) {
            writeln!(
                wrong,
                "{}: the engines end differently:\n{told}\n{on_valkey}",
                path.display()
            )
            .expect("a string takes it");
        }
        let out = path.with_extension("out");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&out, &told).expect("an .out file can be written");
        }
        let expected =
            std::fs::read_to_string(&out).unwrap_or_else(|_| "(no .out file)".to_owned());
        if told != expected {
            writeln!(
                wrong,
                "{}:\n--- expected\n{expected}\n--- told\n{told}",
                path.display()
            )
            .expect("a string takes it");
        }
    }
    assert!(wrong.is_empty(), "UPDATE=1 writes the files anew\n{wrong}");
}

/// The steps that were taken (those of forming only where the script is about them), then what the script tells.
fn play(text: &str, forms: bool, profile: Profile) -> String {
    let mut world = ModelWorld::new(profile);
    let told = script::run(text, &mut world).unwrap_or_else(|error| format!("ERROR {error}\n"));
    let mut out = String::new();
    let forming = if forms {
        world.forming_steps()
    } else {
        Vec::new()
    };
    for step in forming.into_iter().chain(world.steps()) {
        writeln!(out, "{step}").expect("a string takes it");
    }
    format!("{out}== told\n{told}")
}

fn ends(told: &str) -> Option<&str> {
    told.split_once("== told").map(|(_, ends)| ends)
}
