//! The parsers against texts of real servers, against broken bytes, and against what a renderer wrote.

#[path = "wire/nodes.rs"]
mod nodes;
