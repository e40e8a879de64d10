#!/usr/bin/env bash
# What a task costs in instructions, where time is too noisy: `benches/growth.rs` does N tasks and 2 N under
# callgrind, and the difference is divided by N. So what a pool costs to start and to stop is not in it.
#
#   benches/instructions.sh [t1|t2|p1|p2 [WORKERS [N]]]        (default: t2 2 20000; of p1 and p2 the host's side only)
#
# Told: instructions a task; atomic exchanges a task (instructions with a lock on the bus), and those of them that
# take a lock of parking_lot or wait in its slow path; the ten functions that cost most. Under callgrind one thread
# runs at a time: counts are steady, but who finds whom asleep is not as it is without.
set -euo pipefail
cd "$(dirname "$0")/.."
workload=${1:-t2} workers=${2:-2} n=${3:-20000}
for tool in valgrind objdump; do
    command -v "$tool" >/dev/null || { echo "$tool is needed: package valgrind, and binutils for objdump" >&2; exit 2; }
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
objdump -d --no-show-raw-insn "$binary" | awk '
    # `lock …`, and `xchg` with memory, which locks without saying so.
    $2 == "lock" || ($2 ~ /^xchg/ && /\(/) { sub(":", "", $1); print $1 }' >"$out/atomic"

# A cost line is "0xADDRESS LINE COUNT"; the one after "calls=" is of the callee, and counted there.
awk -v n="$n" -v what="$workload, $workers workers, $n tasks" '
    FILENAME ~ /atomic$/ { atomic["0x" $1] = 1; next }
    FNR == 1 { sign = sign == -1 ? 1 : -1; object = file = function_name = "" }
    /^ob=/ { ours = $0 ~ /\/growth-[0-9a-f]+$/; next }
    /^fl=/ { file = substr($0, 4); next }
    /^f[ie]=/ { file = substr($0, 4); next }
    /^fn=/ { function_name = substr($0, 4); next }
    /^calls=/ { getline; next }
    /^0x/ {
        cost[function_name] += sign * $3
        total += sign * $3
        if (ours && $1 in atomic) {
            exchanges += sign * $3
            where[file] += sign * $3
        }
    }
    END {
        printf "%s: %.1f instructions a task, %.2f atomic exchanges a task\n\natomic exchanges a task, by source file:\n",
            what, total / n, exchanges / n
        sort = "sort -rn | head -10"
        for (name in where) if (where[name] / n >= 0.005) printf "%8.2f  %s\n", where[name] / n, tail(name) | sort
        close(sort)
        print "\ninstructions a task, by function:"
        for (name in cost) if (cost[name] / n >= 0.05) printf "%8.1f  %s\n", cost[name] / n, name | sort
    }
    # The end of a path: where it lies on this machine is no matter.
    function tail(path,    parts, count) {
        count = split(path, parts, "/")
        return count > 2 ? parts[count - 2] "/" parts[count - 1] "/" parts[count] : path
    }' "$out/atomic" "$out/1" "$out/2"
