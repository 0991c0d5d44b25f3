//! Where the words go: what cannot be written is told, and a reader that has gone is no failure.

use std::fs::File;

use shardwright_testkit::{engines, skip};

use crate::rig::{Home, TestResult};

#[test]
fn data_that_cannot_be_written_is_told_unless_nobody_reads_it() -> TestResult {
    let Some(engine) = engines().usable.first() else {
        skip::skipped("data_that_cannot_be_written", "there is no engine");
        return Ok(());
    };
    let home = Home::new()?;
    let program = engine.path.display().to_string();
    let words = ["up", "--dry-run", "--engine", &program];

    let full = File::options().write(true).open("/dev/full")?;
    let ran = home.command(&words).stdout(full).output()?;
    let said = String::from_utf8(ran.stderr)?;
    assert_eq!(ran.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write to standard output"), "{said}");
    assert!(said.contains("No space left"), "{said}");

    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let ran = home.command(&words).stdout(writer).output()?;
    assert_eq!(ran.status.code(), Some(0));
    assert_eq!(String::from_utf8(ran.stderr)?, "");
    Ok(())
}
