//! Parity clauses A: `as_completed`.
