#!/usr/bin/env bash
# A crate of a user: made outside of the repository, depends on it by path, and is run and tested
# there. Shows that the quick start works as it stands, with `main` and with tests of its own.
#
# Uses CARGO_TARGET_DIR if it is set; otherwise builds in the temporary directory.
set -euo pipefail

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
repository="$(dirname -- "$here")"
scratch="$(mktemp -d)"
trap 'rm -rf -- "$scratch"' EXIT
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$scratch/target}"
[[ "$CARGO_TARGET_DIR" == /* ]] || CARGO_TARGET_DIR="$PWD/$CARGO_TARGET_DIR" # it is used elsewhere

crate="$scratch/a-users-crate"
mkdir -p "$crate/src"
cat > "$crate/Cargo.toml" <<TOML
[package]
name = "a-users-crate"
version = "0.1.0"
edition = "2024"

[dependencies]
concurrent-futures = { path = "$repository" }

[workspace]
TOML
if [[ -f "$repository/Cargo.lock" ]]; then
    # Same versions, no resolution: cargo drops what is not needed and adds the crate itself.
    cp -- "$repository/Cargo.lock" "$crate/"
fi

cat > "$crate/src/main.rs" <<'RUST'
use concurrent_futures::{
    Error, Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed, init,
};

#[cfg(test)]
concurrent_futures::init_tests!();

fn square(n: u64) -> u64 {
    n * n
}

fn divide((a, b): (u32, u32)) -> u32 {
    a / b
}

fn run<E: Executor>(executor: &E) -> Result<(), Error> {
    println!("square {}", executor.submit(square, 12).result()?);
    let squares = executor.map(square, 1..=4).collect::<Result<Vec<_>, _>>()?;
    println!("map {squares:?}");
    let futures = (1..=4).map(|n| (n, executor.submit(square, n)));
    let mut pairs = Vec::new();
    for (n, future) in as_completed(futures) {
        pairs.push((n, future.result()?));
    }
    pairs.sort_unstable();
    println!("as_completed {pairs:?}");
    let error = executor.submit(divide, (1, 0)).result().unwrap_err();
    println!("error {error}");
    Ok(())
}

/// Goes deeper than any stack.
fn deeper(n: u64) -> u64 {
    let space = std::hint::black_box([n; 512]);
    1 + deeper(n + space[17]) + std::hint::black_box(space)[3]
}

fn main() -> Result<(), Error> {
    init();
    run(&ThreadPoolExecutor::new(2)?)?;
    let pool = ProcessPoolExecutor::new(2)?;
    run(&pool)?;
    pool.submit(|name: String| println!("hello from a worker, {name}"), "user".to_string()).result()?;
    let error = pool.submit(deeper, 0).result().unwrap_err();
    println!("lost {}", matches!(error, Error::WorkerDied { .. }));
    println!("after it {}", pool.submit(square, 3).result()?);
    Ok(())
}

#[test]
fn on_threads() {
    run(&ThreadPoolExecutor::new(2).unwrap()).unwrap();
}

#[test]
fn in_processes() {
    let pool = ProcessPoolExecutor::new(2).unwrap();
    run(&pool).unwrap();
    let worker = pool.submit(|()| std::process::id(), ()).result().unwrap();
    assert_ne!(worker, std::process::id());
    let error = pool.submit(|code: i32| std::process::exit(code), 3).result();
    assert!(matches!(error, Err::<(), _>(Error::WorkerDied { .. })));
}
RUST

fail() {
    printf 'scratch: %s\n' "$1" >&2
    printf '%s\n' "${2:-}" >&2
    exit 1
}

# times <n> <line> <output>: the line is in the output, so many times.
times() {
    local found
    found="$(grep -cxF -- "$2" <<< "$3" || true)"
    [[ "$found" == "$1" ]] || fail "expected $1 times, found $found times: $2" "$3"
}

cd -- "$crate"
output="$(cargo run --quiet 2>"$scratch/stderr")" || fail "cargo run failed" "$output$(cat "$scratch/stderr")"
times 2 'square 144' "$output"
times 2 'map [1, 4, 9, 16]' "$output"
times 2 'as_completed [(1, 1), (2, 4), (3, 9), (4, 16)]' "$output"
[[ "$(grep -c '^error `a_users_crate::divide` (task [0-9]*) panicked: attempt to divide by zero (at src/main.rs:' <<< "$output")" == 2 ]] \
    || fail "the error does not name the task, the panic and its place" "$output"
times 1 'hello from a worker, user' "$output"
times 1 'lost true' "$output"
times 1 'after it 9' "$output"

output="$(cargo test 2>&1)" || fail "cargo test failed" "$output"
grep -q '^test result: ok. 2 passed; 0 failed' <<< "$output" || fail "not two tests passed" "$output"

if cargo nextest --version > /dev/null 2>&1; then
    output="$(cargo nextest run 2>&1)" || fail "cargo nextest run failed" "$output"
    grep -q '2 tests run: 2 passed' <<< "$output" || fail "not two tests passed under nextest" "$output"
    echo "scratch: cargo run, cargo test and cargo nextest run are fine"
else
    echo "scratch: cargo run and cargo test are fine (no cargo-nextest here)"
fi
