//! Which libraries of functions primaries have: read where they have some, and seldom.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use shardwright_engine::{Client, Error};
use shardwright_topology::{
    Address, CodeDigest, FunctionLibraries, NodeId, NodeView, Observed, Role, Seen, ServerName,
};

use crate::execute::{StepError, client_of};
use crate::{Links, Seat};

/// For how long the libraries that were read of a primary are taken to be as they were, while the connection (and so the
/// process) is the same and `INFO` counts as many. A person who replaces one by another code is seen after that.
const READ_FOR: Duration = Duration::from_secs(30);

/// What was read of a primary, by which connection and when.
#[derive(Clone, Debug)]
pub(crate) struct ReadLibraries {
    client: Client,
    at: Instant,
    /// How many libraries `INFO` counted.
    count: u64,
    libraries: FunctionLibraries,
}

/// Adds the libraries of functions of the primaries that have some to what was observed.
pub(crate) async fn read(links: &Links, seats: &[Seat], heard: &mut [Seen<NodeView>]) {
    let asked = seats.iter().zip(&*heard).map(|(seat, seen)| async move {
        let (view, address) = (seen.known()?, seat.address.known()?);
        let count = view.server.libraries.filter(|count| *count > 0)?;
        view.own().filter(|own| own.role == Role::Primary)?;
        Some(read_one(links, &seat.name, address, count).await)
    });
    let all = join_all(asked).await;
    for (seen, found) in heard.iter_mut().zip(all) {
        let (Seen::Known(view), Some(found)) = (seen, found) else {
            continue;
        };
        view.functions = match found {
            Ok(libraries) => Seen::Known(libraries),
            Err(error) => {
                tracing::debug!(node = %view.id.short(), %error, "libraries of functions not read");
                Seen::Unknown(error.why())
            }
        };
    }
}

async fn read_one(
    links: &Links,
    name: &ServerName,
    address: &Address,
    count: u64,
) -> Result<FunctionLibraries, Error> {
    let client = links.client(name, address).await?;
    let before = links.libraries_read(name).filter(|read| {
        read.client.is_same(&client) && read.count == count && read.at.elapsed() < READ_FOR
    });
    if let Some(before) = before {
        return Ok(before.libraries);
    }
    let at = Instant::now();
    let found = client.function_libraries().await?;
    let libraries: FunctionLibraries = found
        .into_iter()
        .map(|library| (library.name.clone(), library.digest()))
        .collect();
    let read = ReadLibraries {
        client,
        at,
        count,
        libraries: libraries.clone(),
    };
    links.note_libraries(name, read);
    Ok(libraries)
}

/// Loads these libraries of one node at another, each with the code that was seen.
///
/// # Errors
/// [`StepError::Moved`] where one has another code by now, or is gone.
pub(crate) async fn copy(
    links: &Links,
    o: &Observed,
    from: NodeId,
    to: (NodeId, &Client),
    wanted: &FunctionLibraries,
) -> Result<(), StepError> {
    let (node, target) = to;
    let found = client_of(links, o, from)
        .await?
        .function_libraries()
        .await?;
    let code = |name: &String, digest: &CodeDigest| {
        let mut found = found.iter();
        let library = found.find(|library| library.name == *name && library.digest() == *digest);
        library.map(|library| library.code.as_slice())
    };
    for (name, digest) in wanted {
        let Some(code) = code(name, digest) else {
            if let Some(server) = o.server_of(from) {
                links.forget_libraries(&server.name);
            }
            let from = from.short();
            let text = format!("{from} has another code of library {name} by now, or none");
            return Err(StepError::Moved(text));
        };
        // What was read before is not so any more, even where their number stays.
        if let Some(server) = o.server_of(node) {
            links.forget_libraries(&server.name);
        }
        target.function_load(code).await?;
    }
    Ok(())
}
