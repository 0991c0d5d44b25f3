//! Libraries of functions: reading them with their code, and loading them elsewhere.

use redis::Value;
use sha2::{Digest, Sha256};
use shardwright_topology::CodeDigest;

use crate::client::Request;
use crate::{Client, Error};

/// A library of functions as a server returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionLibrary {
    /// Its name.
    pub name: String,
    /// Its code, the first line (`#!lua name=…`) included.
    pub code: Vec<u8>,
}

impl FunctionLibrary {
    /// Tells its code from another's.
    pub fn digest(&self) -> CodeDigest {
        CodeDigest::from_bytes(Sha256::digest(&self.code).into())
    }
}

const LIST: &str = "FUNCTION LIST";

impl Client {
    /// All its libraries of functions with their code. For Redis and Valkey 7 and later.
    ///
    /// # Errors
    /// [`Error::NoPerm`] where the user may not ask `FUNCTION LIST`.
    pub async fn function_libraries(&self) -> Result<Vec<FunctionLibrary>, Error> {
        let value = self.ask(Request::new(LIST).arg("WITHCODE")).await?;
        let Value::Array(libraries) = value else {
            return Err(self.asked(LIST).strange(format!("{value:?}")));
        };
        libraries
            .into_iter()
            .map(|library| self.read_library(library))
            .collect()
    }

    /// Loads a library of functions. One of the same name is replaced.
    ///
    /// # Errors
    /// Where the server can't compile it, or another library has a function of the same name.
    pub async fn function_load(&self, code: &[u8]) -> Result<(), Error> {
        let request = Request::new("FUNCTION LOAD").arg("REPLACE").arg(code);
        self.text(request).await.map(drop)
    }

    /// A library is a map, or names and values in turn.
    fn read_library(&self, library: Value) -> Result<FunctionLibrary, Error> {
        let fields = match library {
            Value::Array(words) => words,
            Value::Map(pairs) => pairs.into_iter().flat_map(|(k, v)| [k, v]).collect(),
            other => return Err(self.asked(LIST).strange(format!("{other:?}"))),
        };
        let (mut name, mut code) = (None, None);
        let mut fields = fields.into_iter();
        while let (Some(field), Some(value)) = (fields.next(), fields.next()) {
            match self.utf8(LIST, field)?.as_str() {
                "library_name" => name = Some(self.utf8(LIST, value)?),
                "library_code" => code = Some(self.expect_text(LIST, value)?),
                _ => {}
            }
        }
        match (name, code) {
            (Some(name), Some(code)) => Ok(FunctionLibrary { name, code }),
            _ => Err(self.asked(LIST).strange("a library without name or code")),
        }
    }
}
