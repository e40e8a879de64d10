//! Parity clauses W: `wait`.
