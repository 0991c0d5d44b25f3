//! Passwords that do not show themselves, and their hashes.

use std::fmt;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// A password, or text that holds one. Neither `Debug` nor `Display` shows it, so it cannot come
/// into a log or an error by accident; [`Secret::expose`] is the only way to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a password as it is.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// 32 random bytes as a password of 43 characters that need no quoting in a shell, in a URL or
    /// in `redis.conf` (base64url without padding, RFC 4648 section 5). The caller draws the bytes.
    pub fn from_random(bytes: &[u8; 32]) -> Self {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut text = String::with_capacity(43);
        for chunk in bytes.chunks(3) {
            let group = chunk.iter().enumerate().fold(0_usize, |sum, (i, byte)| {
                sum | usize::from(*byte) << (16 - 8 * i)
            });
            for i in 0..=chunk.len() {
                text.push(char::from(ALPHABET[group >> (18 - 6 * i) & 0x3f]));
            }
        }
        Self(text)
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// True if there is no text at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The hash that stands in `users.acl` for this password.
    pub fn hash(&self) -> PasswordHash {
        let digest = Sha256::digest(self.0.as_bytes());
        let mut hex = String::with_capacity(64);
        for byte in digest {
            write!(hex, "{byte:02x}").expect("writing to a String cannot fail");
        }
        PasswordHash(hex)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// The SHA-256 of a password: 64 lower-case hexadecimal digits, as Redis writes it in `users.acl`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Takes 64 lower-case hexadecimal digits; the engines refuse any other spelling.
    pub fn parse(text: &str) -> Result<Self, PasswordHashError> {
        let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 64 && text.bytes().all(lower_hex) {
            Ok(Self(text.to_owned()))
        } else {
            Err(PasswordHashError)
        }
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// The hash of a weak password can be guessed from, so `Debug` shows only its beginning.
impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PasswordHash({}…)", &self.0[..8])
    }
}

/// A text that is not the SHA-256 of anything. Does not repeat the text: it may be a password that
/// was put in the wrong place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a SHA-256: 64 hexadecimal digits in lower case, without the `#`")]
pub struct PasswordHashError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_shows_itself() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?} {secret}"), "Secret(…) (secret)");
        assert_eq!(format!("{:?}", Some(&secret)), "Some(Secret(…))");
    }

    #[test]
    fn the_hash_is_the_one_the_engines_compute() {
        // `ACL SETUSER x >admin` then `ACL LIST`.
        assert_eq!(
            Secret::new("admin").hash().as_str(),
            "8c6976e5b5410415bde908bd4dee15dfb167a9c873fc4bb8a81f6f2ab448a918"
        );
    }

    #[test]
    fn random_bytes_become_url_safe_text() {
        // From `python3 -c 'base64.urlsafe_b64encode(bytes(...))'`, without the padding.
        assert_eq!(
            Secret::from_random(&[0xff; 32]).expose(),
            "__________________________________________8"
        );
        let counting: [u8; 32] = std::array::from_fn(|i| u8::try_from(i).expect("below 32"));
        assert_eq!(
            Secret::from_random(&counting).expose(),
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
        );
    }

    #[test]
    fn a_refused_hash_is_not_repeated() {
        for bad in ["", "hunter2", &"A".repeat(64), &"a".repeat(63)] {
            let error = PasswordHash::parse(bad).expect_err("must be refused");
            assert!(bad.is_empty() || !error.to_string().contains(bad));
        }
    }
}
