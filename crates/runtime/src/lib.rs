//! The runtime interface, and the executor: observe, plan, check, one bounded batch, report.
