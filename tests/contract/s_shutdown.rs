//! Parity clauses S: shutdown and the end of the program.
