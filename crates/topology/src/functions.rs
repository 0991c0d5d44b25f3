//! Libraries of functions (`FUNCTION LOAD`): what they are called, and whether two of them are the same.

use std::collections::BTreeMap;
use std::fmt;

/// The libraries of functions of one server, by name. Names consist of letters, digits and underscores.
pub type FunctionLibraries = BTreeMap<String, CodeDigest>;

/// The SHA-256 of a library's code as `FUNCTION LIST WITHCODE` returns it, its first line (`#!lua name=…`) included: two
/// libraries with one name and one digest are the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CodeDigest([u8; 32]);

impl CodeDigest {
    /// A digest of these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for CodeDigest {
    /// The first four bytes in hexadecimal: enough to tell two apart.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}
