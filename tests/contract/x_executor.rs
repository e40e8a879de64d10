//! Parity clauses X: what every executor has.
