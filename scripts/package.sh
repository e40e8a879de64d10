#!/usr/bin/env bash
# What must hold before this crate is published: its archive builds by itself, what comes with it may come with it, it needs
# no newer Rust than it says, it is small, and what it promised before still holds. Needs the Rust toolchain and the package
# registry; what cannot be reached or compared is said in a line that begins with "skipped".
#
# Arguments go to `cargo package` and `cargo publish` (`--allow-dirty`, to try it before a commit).
# PACKAGE_TOOLS: where the tools are kept, or get installed. Default: target/tools.
# PACKAGE_BASELINE: the revision whose API this one is held against. Default: the last tag `v…`.
set -euo pipefail
cd "$(dirname "$0")/.."

CRATES=25 # the most that the default build may be made of, this one included
DENY=0.20.2
SEMVER=0.49.0 # the first digits of rustdoc's format change with Rust: a new toolchain may need a new one

target=$PWD/target/package
tools=${PACKAGE_TOOLS:-target/tools}
TIMEFORMAT='%R s (CPU: %U s + %S s)'

say() { printf '\n=== package: %s\n' "$*"; }
skip() { printf 'skipped: %s\n' "$*"; }
fail() {
    printf 'package: %s\n' "$*" >&2
    exit 1
}

# tool <name> <version>: installs it if it is not there. Without optimisation: that takes a third of the time, and they
# run for seconds.
tool() {
    [[ "$("$tools/bin/$1" "${1#cargo-}" --version 2>/dev/null)" == *" $2" ]] && return
    say "install $1 $2"
    time CARGO_PROFILE_DEV_DEBUG=false cargo install --quiet --locked --profile dev \
        --root "$tools" --target-dir "$tools/build" "$1@$2"
}

say 'the archive, unpacked, builds by itself, and could be published'
# What is left out (tests, benches) is told by cargo, target by target: that is what is meant.
cargo package --locked --target-dir "$target" "$@" 2>&1 | grep -v '^warning: ignoring' || fail 'cargo package failed'
# It has been built a line ago.
cargo publish --dry-run --no-verify --locked --target-dir "$target" "$@" 2>&1 | tail -2 || fail 'cargo publish --dry-run failed'
archive=$(ls -t "$target"/package/*.crate | head -1)
printf '%s: %s files, %s bytes\n' "${archive##*/}" "$(tar -tzf "$archive" | wc -l)" "$(wc -c <"$archive")"

say 'how many crates it is made of'
# crates <platform> [argument…]: of the default build, or what the arguments say.
crates() { cargo tree --locked -e normal,build --prefix none --target "$@" | awk 'NF { print $1 }' | sort -u; }
host=$(rustc -vV | sed -n 's/^host: //p')
count=$(crates "$host" | wc -l)
printf '%s crates, this one included (at most %s); %s with all features\n' "$count" "$CRATES" "$(crates "$host" --all-features | wc -l)"
((count <= CRATES)) || fail "the default build is made of $count crates, more than $CRATES: $(crates "$host" | xargs)"

say 'no dependency needs a newer Rust than we do'
# (That our own code does not is what the lint `incompatible_msrv` sees to.)
ours=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
wanted=$(for on in x86_64-unknown-linux-gnu aarch64-apple-darwin x86_64-pc-windows-msvc; do crates "$on" --all-features; done | sort -u)
newer=$(
    cargo metadata --locked --format-version 1 |
        sed 's/{"name":"\([^"]*\)","version":"\([^"]*\)","id":/\n&/g' |
        sed -n 's/^{"name":"\([^"]*\)","version":"\([^"]*\)",.*"rust_version":"\([^"]*\)".*/\1 \2 \3/p' |
        while read -r name version rust; do
            grep -qx -- "$name" <<<"$wanted" || continue
            # The larger of the two is ours, or it is both.
            [[ "$(printf '%s\n%s\n' "$ours" "$rust" | sort -V | tail -1)" == "$ours" ]] ||
                [[ "$rust" == "$ours.0" ]] || printf '%s %s needs %s\n' "$name" "$version" "$rust"
        done
)
[[ -z "$newer" ]] || fail "we say $ours, but $newer"
printf '%s crates on three platforms, none beyond %s\n' "$(wc -l <<<"$wanted")" "$ours"

say 'how long it takes to build for a user, from nothing'
# In a crate of its own, because the profiles of this one are for its tests.
user=$target/user
rm -rf "$user"
mkdir -p "$user/src"
cp Cargo.lock "$user"
cat >"$user/Cargo.toml" <<TOML
[package]
name = "a-user"
version = "0.0.0"
edition = "2024"
[dependencies]
concurrent-futures = { path = "$target/package/$(basename "$archive" .crate)" }
[workspace]
TOML
echo 'fn main() { concurrent_futures::init() }' >"$user/src/main.rs"
for profile in dev release; do
    printf '%s: ' "$profile"
    # Everything was fetched before, so it is the compiler that is timed.
    time cargo build --quiet --offline --profile "$profile" --manifest-path "$user/Cargo.toml" \
        --target-dir "$user/target"
done
rm -rf "$user"

tool cargo-deny "$DENY"
say 'licences, duplicates, sources'
"$tools/bin/cargo-deny" --all-features --offline check licenses bans sources
say 'known holes'
database=https://github.com/rustsec/advisory-db
if GIT_TERMINAL_PROMPT=0 timeout 20 git ls-remote --quiet "$database" HEAD >/dev/null 2>&1; then
    "$tools/bin/cargo-deny" --all-features check advisories
else
    skip "the database of advisories ($database) cannot be reached from here"
fi

baseline=${PACKAGE_BASELINE:-$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null || true)}
say 'what was promised still holds'
if [[ -z "$baseline" ]]; then
    skip 'no release to compare with: there is no tag v… yet (PACKAGE_BASELINE names another revision)'
else
    tool cargo-semver-checks "$SEMVER"
    "$tools/bin/cargo-semver-checks" semver-checks --baseline-rev "$baseline" --all-features
fi

say "all well ($SECONDS s)"
