//! The password of our own user.

use std::fs;
use std::hint::black_box;
use std::path::Path;

use crate::Error;

/// Reads the password: the whole file without line ends after it.
///
/// # Errors
/// Where the file can't be read as UTF-8, or holds nothing: an empty password would let everybody in.
pub fn read(path: &Path) -> Result<String, Error> {
    let text = fs::read_to_string(path).map_err(Error::file("read", path))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(Error::EmptyPassword(path.to_owned()));
    }
    Ok(password.to_owned())
}

/// Compares in a time that depends on the lengths alone.
#[must_use]
pub fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut differs = u8::from(a.len() != b.len());
    for i in 0..a.len().max(b.len()) {
        let of = |bytes: &[u8]| bytes.get(i).copied().unwrap_or(0);
        differs = black_box(differs | (of(a) ^ of(b)));
    }
    differs == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_is_the_same() {
        assert!(same("secret", "secret"));
        for other in ["", "secre", "secret2", "Secret", "secret\0"] {
            assert!(!same("secret", other) && !same(other, "secret"), "{other}");
        }
        assert!(same("", ""));
    }

    #[test]
    fn a_line_end_is_not_part_of_it_and_empty_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("p");
        fs::write(&path, "a b\r\n").expect("written");
        assert_eq!(read(&path).expect("readable"), "a b");
        fs::write(&path, "\n").expect("written");
        let said = read(&path).expect_err("empty").to_string();
        assert!(said.contains("is empty"), "{said}");
        assert!(read(&dir.path().join("none")).is_err());
    }
}
