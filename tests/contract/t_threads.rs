//! Parity clauses T: thread pools.
