//! A connection to the server of this pod as the user that asks it for its role.

use std::time::Duration;

use crate::args::Options;
use crate::client::{Client, NoAnswer};
use crate::password;
use crate::resp::Value;

/// Why nobody is logged in.
#[derive(Debug)]
pub enum NoLogin {
    /// The password can't be had, or the server does not take it; the text says which.
    Refused(String),
    /// The server gave no answer.
    Server(NoAnswer),
}

/// Connects and logs in; without a password file the connection is the default user's.
///
/// # Errors
/// [`NoLogin`]; connecting and logging in may take `limit` each.
pub fn log_in(options: &Options, limit: Duration) -> Result<Client, NoLogin> {
    let mut client = Client::connect(options.port, limit).map_err(NoLogin::Server)?;
    if let Some(path) = &options.password_file {
        let password = password::read(path).map_err(|e| NoLogin::Refused(e.with_cause()))?;
        let login = ["AUTH", &options.user, &password];
        let answer = client.ask(&login, limit).map_err(NoLogin::Server)?;
        if let Value::Error(said) = answer {
            return Err(NoLogin::Refused(format!("the login was refused: {said}")));
        }
    }
    Ok(client)
}
