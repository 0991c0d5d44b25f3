//! A seeded model cluster with faults, and an oracle that watches the planner drive it.
