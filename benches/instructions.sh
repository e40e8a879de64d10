#!/usr/bin/env bash
# What a task costs in instructions, where time is too noisy: `benches/growth.rs` does N tasks and 2 N under
# callgrind, and the difference is divided by N. So what a pool costs to start and to stop is not in it.
#
#   benches/instructions.sh [t1|t2|p1|p2 [WORKERS [N]]]        (default: t2 2 20000; of p1 and p2 the host's side only)
#
# Told: instructions a task, and the ten functions that cost most; atomic exchanges a task (instructions that lock a
# cache line, ours and what is inlined in ours), the locks taken among them, and where in the source each of them
# stands. Under callgrind one thread runs at a time: counts are steady, but nobody meets anybody, and who finds whom
# asleep is not as it is without.
set -euo pipefail
cd "$(dirname "$0")/.."
workload=${1:-t2} workers=${2:-2} n=${3:-20000}
for tool in valgrind objdump addr2line; do
    command -v "$tool" >/dev/null || { echo "$tool is needed: package valgrind, and binutils for the others" >&2; exit 2; }
done

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
# Names and lines of functions are wanted, in an optimised build.
CARGO_PROFILE_BENCH_DEBUG=1 cargo bench --no-run --bench growth --message-format=json-render-diagnostics >"$out/build"
binary=$(sed -n 's/.*"name":"growth".*"executable":"\([^"]*\)".*/\1/p' "$out/build" | tail -1)
[ -n "$binary" ] || { echo "the program was not built" >&2; exit 1; }

for times in 1 2; do
    valgrind --tool=callgrind --dump-instr=yes --compress-strings=no --compress-pos=no \
        --callgrind-out-file="$out/$times" "$binary" --tasks "$workload" "$workers" $((times * n)) >"$out/log" 2>&1 ||
        { cat "$out/log" >&2; exit 1; }
done
# Where each locked instruction stands: `lock …`, and `xchg` with memory, which locks without saying so. Of what is
# inlined into one another there, the first that is ours is told; where nothing is, the function.
objdump -d --no-show-raw-insn "$binary" | awk '
    $2 == "lock" || ($2 ~ /^xchg/ && /\(/) { sub(":", "", $1); print "0x" $1 }' >"$out/addresses"
addr2line -a -p -f -i -C -e "$binary" <"$out/addresses" | awk -v root="$PWD/" '
    function flush() { if (address != "") print address, kind, (place == "" ? name : place) }
    /^0x/ { flush(); address = $1; sub(/:$/, "", address); sub(/^0x0*/, "0x", address); kind = "other"; place = "" }
    /RawMutex>::lock / { kind = "lock" }
    /RawMutex>::unlock / { kind = "unlock" }
    { name = $0; sub(/^0x[^ ]* /, "", name); sub(/^ *\(inlined by\) /, "", name); sub(/ at .*/, "", name); gsub(/ /, "_", name) }
    place == "" && (at = index($0, " at " root)) { place = substr($0, at + 4 + length(root)); sub(/ .*/, "", place) }
    END { flush() }' >"$out/atomic"

# A cost line is "0xADDRESS LINE COUNT"; the one after "calls=" is of the callee, and counted there.
awk -v n="$n" -v what="$workload, $workers workers, $n tasks" '
    FILENAME ~ /atomic$/ { kind[$1] = $2; place[$1] = $3; next }
    FNR == 1 { sign = sign == -1 ? 1 : -1; ours = 0; name = "" }
    /^ob=/ { ours = $0 ~ /\/growth-[0-9a-f]+$/; next }
    /^fn=/ { name = substr($0, 4); next }
    /^calls=/ { getline; next }
    /^0x/ {
        cost[name] += sign * $3
        total += sign * $3
        if (ours && $1 in kind) {
            count[kind[$1]] += sign * $3
            at[kind[$1] "  " place[$1]] += sign * $3
        }
    }
    END {
        printf "%s: %.1f instructions, %.2f atomic exchanges, %.2f locks taken a task\n", what, total / n,
            (count["lock"] + count["unlock"] + count["other"]) / n, count["lock"] / n
        sort = "sort -rn | head -10"
        print "\ninstructions a task, by function:"
        for (key in cost) if (cost[key] / n >= 0.05) printf "%8.1f  %s\n", cost[key] / n, key | sort
        close(sort)
        sort = "sort -rn"
        print "\natomic exchanges a task, by place:"
        for (key in at) if (at[key] / n >= 0.005) printf "%8.2f  %s\n", at[key] / n, key | sort
        close(sort)
    }' "$out/atomic" "$out/1" "$out/2"
