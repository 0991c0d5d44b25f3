//! Talks to one Redis or Valkey server: typed administration commands and a capability probe.
