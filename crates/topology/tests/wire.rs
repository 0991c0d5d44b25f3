//! The parsers against texts of real servers, against broken bytes, and against what a renderer wrote.

#[path = "wire/broken.rs"]
mod broken;
#[path = "wire/nodes.rs"]
mod nodes;
#[path = "wire/resp.rs"]
mod resp;
#[path = "wire/samples.rs"]
mod samples;
#[path = "wire/trip.rs"]
mod trip;

/// What a test returns: `?` on anything fails it.
type Outcome = Result<(), Box<dyn std::error::Error>>;

/// A text that a real server wrote, kept beside these tests.
fn sample(engine: &str, name: &str) -> std::io::Result<Vec<u8>> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wire/samples");
    std::fs::read(format!("{root}/{engine}/{name}.txt"))
}

/// The engines whose texts are kept.
const ENGINES: [&str; 2] = ["redis-7.0.15", "valkey-9.1.2"];
