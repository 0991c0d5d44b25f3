//! Looks at the data directory, and keeps the marks of a stop and of a copy in it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::Error;
use crate::ballast;
use crate::conf::Conf;
use crate::disk::{Found, Table};

/// Written when a stop is asked for, removed before each start.
const STOP_MARK: &str = "stopping";
const STOP_PROBE: &str = ".stopping-probe";
/// Written when the server is seen as a replica with its copy, removed before each start.
const COPY_MARK: &str = "copied";
/// What was set aside is in directories of this name and a number.
const ASIDE: &str = "set-aside-";
/// The file system's own, at the root of a volume; only the root user may move it.
const LOST_FOUND: &str = "lost+found";

/// Looks. `data` holds the mark, `dir` the files of the server (the same, unless its `dir` says otherwise).
///
/// # Errors
/// Where there is no such directory, or something in it can't be looked at. A table that can't be read is a finding,
/// no error.
pub fn look(data: &Path, dir: &Path, conf: &Conf) -> Result<Found, Error> {
    for folder in [data, dir] {
        fs::read_dir(folder).map_err(Error::file("read the directory", folder))?;
    }
    let table = match fs::read(dir.join(&conf.nodes_file)) {
        Ok(bytes) => Table::Bytes(bytes),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Table::Missing,
        Err(_) => Table::Unreadable,
    };
    Ok(Found {
        table,
        append_only: conf.append_only,
        log: has_log(&dir.join(&conf.append_dir))?,
        stop_marked: written(&data.join(STOP_MARK))?,
        snapshot: written(&dir.join(&conf.snapshot))?,
        unfinished_snapshot: unfinished_snapshot(dir)?,
    })
}

/// Writes the mark; one that is there already is renewed. It is empty, so that it needs no room on a full disk, and
/// its time is the file system's own, as the snapshot's is: the clock of a process may be some ms ahead of that.
///
/// # Errors
/// Where the file can't be created.
pub fn mark_stop(data: &Path) -> Result<(), Error> {
    let path = data.join(STOP_MARK);
    remove(&path)?;
    File::create(&path).map_err(Error::file("create", &path))?;
    Ok(())
}

/// Whether the clock of the file system has moved on since the mark: only then is whatever is saved from now on
/// younger than it. That clock ticks every few ms.
///
/// # Errors
/// Where that can't be found out.
pub fn mark_is_past(data: &Path) -> Result<bool, Error> {
    let probe = data.join(STOP_PROBE);
    remove(&probe)?;
    File::create(&probe).map_err(Error::file("create", &probe))?;
    let (mark, now) = (written(&data.join(STOP_MARK))?, written(&probe)?);
    remove(&probe)?;
    Ok(now > mark)
}

/// Removes the marks of a stop and of a copy.
///
/// # Errors
/// Where one is still there after it. The next start would then trust a snapshot of any time, or a replica be ready
/// for a copy of another run: do not start.
pub fn clear_marks(data: &Path) -> Result<(), Error> {
    remove(&data.join(STOP_MARK))?;
    clear_copy_mark(data)
}

/// Notes that the server has had its primary's copy since it started. The mark is empty, and is written once.
///
/// # Errors
/// Where the file can't be created.
pub fn mark_copy(data: &Path) -> Result<(), Error> {
    let path = data.join(COPY_MARK);
    if path.exists() {
        return Ok(());
    }
    File::create(&path).map_err(Error::file("create", &path))?;
    Ok(())
}

/// Whether the server has had its primary's copy since it started.
#[must_use]
pub fn is_copy_marked(data: &Path) -> bool {
    data.join(COPY_MARK).exists()
}

/// Takes that note back.
///
/// # Errors
/// Where it is still there after it.
pub fn clear_copy_mark(data: &Path) -> Result<(), Error> {
    remove(&data.join(COPY_MARK))
}

/// The node's table as a pod has it, if it can be read.
#[must_use]
pub fn table(data: &Path) -> Option<String> {
    fs::read_to_string(data.join(Conf::default().nodes_file)).ok()
}

/// Moves what is in the directory of the server into a new directory there, except the ballast and what was set aside
/// before. `table`, the file of the node's table, goes last: a start that comes between finds the server held again.
///
/// # Errors
/// Where something can't be moved: the server must not start then.
pub fn set_aside(dir: &Path, table: &str) -> Result<PathBuf, Error> {
    let aside = (1..=u32::MAX)
        .map(|n| dir.join(format!("{ASIDE}{n}")))
        .find(|path| !path.exists())
        .expect("there are more numbers than directories");
    let stays = |name: &str| name == ballast::NAME || name == LOST_FOUND || name.starts_with(ASIDE);
    let mut moved = list(dir)?;
    moved.retain(|path| {
        path.file_name()
            .is_some_and(|name| !stays(&name.to_string_lossy()))
    });
    moved.sort_by_key(|path| *path == dir.join(table));
    fs::create_dir(&aside).map_err(Error::file("create", &aside))?;
    for path in moved {
        if let Some(name) = path.file_name() {
            fs::rename(&path, aside.join(name)).map_err(Error::file("set aside", &path))?;
        }
    }
    Ok(aside)
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", path)(e)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn written(path: &Path) -> Result<Option<SystemTime>, Error> {
    match fs::metadata(path).and_then(|meta| meta.modified()) {
        Ok(at) => Ok(Some(at)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::file("look at", path)(e)),
    }
}

/// Since version 7 the append-only file is a directory with a manifest.
fn has_log(folder: &Path) -> Result<bool, Error> {
    let manifest = |path: &PathBuf| path.extension().is_some_and(|e| e == "manifest");
    for path in list(folder)?.iter().filter(|path| manifest(path)) {
        let meta = fs::metadata(path).map_err(Error::file("look at", path))?;
        if meta.len() > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The engines save into `temp-….rdb` and rename that.
fn unfinished_snapshot(dir: &Path) -> Result<Option<SystemTime>, Error> {
    let mut youngest = None;
    for path in list(dir)? {
        let name = path.file_name().map(|name| name.to_string_lossy());
        if name.is_some_and(|name| name.starts_with("temp-") && name.ends_with(".rdb")) {
            youngest = youngest.max(written(&path)?);
        }
    }
    Ok(youngest)
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::file("read the directory", folder)(e)),
    };
    entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()
        .map_err(Error::file("read the directory", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_at(dir: &Path) -> Found {
        look(dir, dir, &Conf::default()).expect("it can be looked at")
    }

    #[test]
    fn an_empty_directory_holds_nothing_and_none_is_an_error() {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(look_at(dir.path()), Found::default());
        let none = dir.path().join("none");
        assert!(look(&none, &none, &Conf::default()).is_err());
    }

    #[test]
    fn files_are_found_where_the_configuration_says() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        fs::write(at("table"), "x").expect("written");
        fs::write(at("s.rdb"), "x").expect("written");
        fs::write(at("temp-7.rdb"), "x").expect("written");
        fs::create_dir(at("log")).expect("made");
        fs::write(at("log/a.manifest"), "").expect("written");
        let conf = Conf {
            append_dir: "log".into(),
            snapshot: "s.rdb".into(),
            nodes_file: "table".into(),
            ..Conf::default()
        };
        let found = look(dir.path(), dir.path(), &conf).expect("found");
        assert_eq!(found.table, Table::Bytes(b"x".to_vec()));
        assert!(found.snapshot.is_some() && found.unfinished_snapshot.is_some());
        assert!(!found.log, "the manifest is empty");
        fs::write(at("log/a.manifest"), "x").expect("written");
        assert!(look(dir.path(), dir.path(), &conf).expect("found").log);
    }

    #[test]
    fn a_table_that_cannot_be_read_is_a_finding() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir(dir.path().join("nodes.conf")).expect("made");
        assert_eq!(look_at(dir.path()).table, Table::Unreadable);
    }

    #[test]
    fn all_is_set_aside_but_the_ballast_and_what_is_aside_already() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        for n in 1..=2 {
            fs::write(at("nodes.conf"), format!("{n}")).expect("written");
            fs::write(at("dump.rdb"), "x").expect("written");
            fs::write(at(ballast::NAME), "x").expect("written");
            let kept = set_aside(dir.path(), "nodes.conf").expect("set aside");
            assert_eq!(kept, at(&format!("set-aside-{n}")));
            let table = fs::read_to_string(kept.join("nodes.conf")).expect("kept");
            assert_eq!(table, format!("{n}"));
            assert!(kept.join("dump.rdb").exists() && at(ballast::NAME).exists());
            assert_eq!(look_at(dir.path()), Found::default());
        }
    }

    #[test]
    fn the_mark_comes_is_renewed_and_goes() {
        let dir = tempfile::tempdir().expect("a folder");
        clear_marks(dir.path()).expect("there is none");
        mark_stop(dir.path()).expect("marked");
        let first = look_at(dir.path()).stop_marked;
        assert!(first.is_some());
        mark_stop(dir.path()).expect("marked again");
        assert!(look_at(dir.path()).stop_marked >= first);
        let begin = std::time::Instant::now();
        while !mark_is_past(dir.path()).expect("it can be asked") {
            assert!(begin.elapsed().as_secs() < 5, "the clock stands still");
        }
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
        fs::write(dir.path().join("dump.rdb"), "").expect("saved");
        let found = look_at(dir.path());
        assert!(found.snapshot > found.stop_marked);
        clear_marks(dir.path()).expect("removed");
        assert_eq!(look_at(dir.path()).stop_marked, None);
    }

    #[test]
    fn the_mark_of_a_copy_is_for_one_start() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(!is_copy_marked(dir.path()));
        for _ in 0..2 {
            mark_copy(dir.path()).expect("marked");
            assert!(is_copy_marked(dir.path()));
        }
        clear_copy_mark(dir.path()).expect("removed");
        assert!(!is_copy_marked(dir.path()));
        mark_copy(dir.path()).expect("marked");
        clear_marks(dir.path()).expect("removed");
        assert!(!is_copy_marked(dir.path()));
    }

    #[test]
    fn the_table_is_read_where_a_pod_has_it() {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(table(dir.path()), None);
        fs::write(dir.path().join("nodes.conf"), "x").expect("written");
        assert_eq!(table(dir.path()).as_deref(), Some("x"));
    }
}
