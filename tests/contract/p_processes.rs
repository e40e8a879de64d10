//! Parity clauses P: process pools.
