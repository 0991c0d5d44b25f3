//! The vocabulary of a sharded cluster, and the merge of every node's view into one observation.
