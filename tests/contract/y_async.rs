//! Parity clauses Y: what asyncio adds.
