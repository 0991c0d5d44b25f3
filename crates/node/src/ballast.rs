//! Room kept for a full disk.
//!
//! A server writes its table when any role changes in the cluster; on a full disk Valkey then exits, and can't start
//! again. So a file of real bytes lies beside the table while there is room, and makes way when a start finds none.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// The name of the file.
pub const NAME: &str = "ballast";
/// Its size: the table of a thousand nodes is some 100 KB, and is written beside the old one.
pub const BYTES: usize = 4 * 1024 * 1024;
/// A table is written into less.
const PROBE_BYTES: usize = 64 * 1024;
const PROBE: &str = ".ballast-probe";
const UNFINISHED: &str = ".ballast-new";

/// What was done.
#[derive(Debug)]
pub enum Ballast {
    /// It was there, and there is room.
    Kept,
    /// There is room: it was made.
    Made,
    /// There is too little room to make it.
    NoRoom,
    /// The disk was full: it was removed.
    Released,
    /// The disk is full, and there was none to remove.
    Full,
    /// Something else went wrong.
    Failed(io::Error),
}

/// Does what is to be done before a start.
#[must_use]
pub fn prepare(dir: &Path) -> Ballast {
    steps(dir).unwrap_or_else(Ballast::Failed)
}

fn steps(dir: &Path) -> io::Result<Ballast> {
    let ballast = dir.join(NAME);
    // Left where this program was killed.
    for name in [PROBE, UNFINISHED] {
        remove(&dir.join(name))?;
    }
    if !fits(&dir.join(PROBE), PROBE_BYTES)? {
        return Ok(if remove(&ballast)? {
            Ballast::Released
        } else {
            Ballast::Full
        });
    }
    match fs::metadata(&ballast) {
        Ok(meta) if meta.len() == BYTES as u64 => return Ok(Ballast::Kept),
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    make(dir, &ballast)
}

/// Twice the bytes are written, so that as much is left to the server as is taken from it.
fn make(dir: &Path, ballast: &Path) -> io::Result<Ballast> {
    let new = dir.join(UNFINISHED);
    match fill(&new, 2 * BYTES) {
        Ok(file) => {
            file.set_len(BYTES as u64)?;
            fs::rename(&new, ballast)?;
            Ok(Ballast::Made)
        }
        Err(e) => {
            remove(&new)?;
            if is_full(&e) {
                Ok(Ballast::NoRoom)
            } else {
                Err(e)
            }
        }
    }
}

/// Whether that many bytes can be written. They are synced: some file systems say only then that there is no room.
fn fits(path: &Path, bytes: usize) -> io::Result<bool> {
    let tried = fill(path, bytes).and_then(|file| file.sync_all());
    remove(path)?;
    match tried {
        Ok(()) => Ok(true),
        Err(e) if is_full(&e) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Bytes that no file system packs into nothing.
fn fill(path: &Path, bytes: usize) -> io::Result<File> {
    let mut file = File::create(path)?;
    let mut chunk = vec![0; PROBE_BYTES];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..bytes / PROBE_BYTES {
        for word in chunk.chunks_exact_mut(8) {
            // Marsaglia's xorshift: quick, and it does not repeat in this size.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_ne_bytes());
        }
        file.write_all(&chunk)?;
    }
    Ok(file)
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Whether there was something to remove.
fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn it_is_made_of_real_bytes_kept_and_made_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(NAME);
        assert!(matches!(prepare(dir.path()), Ballast::Made));
        let meta = fs::metadata(&path).expect("it is there");
        assert_eq!(meta.len(), BYTES as u64);
        assert!(meta.blocks() * 512 >= BYTES as u64, "it is no hole");
        assert!(matches!(prepare(dir.path()), Ballast::Kept));
        fs::write(&path, "half").expect("written");
        fs::write(dir.path().join(UNFINISHED), "left").expect("written");
        assert!(matches!(prepare(dir.path()), Ballast::Made));
        let names = fs::read_dir(dir.path()).expect("listed").count();
        assert_eq!(names, 1, "nothing else is left");
    }

    #[test]
    fn what_goes_wrong_is_told() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(matches!(
            prepare(&dir.path().join("none")),
            Ballast::Failed(_)
        ));
    }
}
