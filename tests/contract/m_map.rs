//! Parity clauses M: `map`.
