"""Celery itself, beside `benches/amqp`: the same calls, the same broker, lines of the same form.

    pip install celery
    AMQP_URL=amqp://... python benches/amqp/celery_tasks.py

The user of that URL needs permissions for all names: Celery makes queues and exchanges of its own. A worker of two
processes (`prefork`, Celery's default), and one without any (`solo`); with the settings of Celery (classic queue, messages
persistent, no confirms, acknowledged before the work), and with those of whoever wants to lose nothing (quorum queue,
`confirm_publish`, `acks_late`).

Not here: what the broker can do (`bare.rs`). The rule: the settings are Celery's own, but for those named above.
"""

import os
import statistics
import subprocess
import sys
import time

from celery import Celery
from kombu import Queue

KIND = os.environ.get("CELERY_KIND", "default")
SAFE = KIND == "safe"
NAME = f"cf.bench.celery.{KIND}"

app = Celery("celery_tasks", broker=os.environ["AMQP_URL"], backend="rpc://")
app.conf.update(
    task_default_queue=NAME,
    task_queues=[Queue(NAME, queue_arguments={"x-queue-type": "quorum"} if SAFE else None)],
    broker_transport_options={"confirm_publish": SAFE},
    task_acks_late=SAFE,
    task_ignore_result=False,
    broker_connection_retry_on_startup=True,
    # Quorum queues know no prefetch for all of a channel's consumers.
    worker_detect_quorum_queues=True,
)


@app.task
def increment(n):
    return n + 1


@app.task
def length(text):
    return len(text)


@app.task
def filled(count):
    return "x" * count


def there_and_back(calls):
    for n in range(calls):
        assert increment.delay(n).get(timeout=60) == n + 1


def queued(task, argument, calls, expected):
    results = [task.delay(argument) for _ in range(calls)]
    for result in results:
        assert expected(result.get(timeout=60))


def measure(contender):
    there_and_back(20)
    text = {size: "x" * (size << 10) for size in (1, 10, 100)}
    workloads = [("a1", 300, there_and_back)]
    workloads.append(("a2", 2_000, lambda n: queued(increment, 1, n, lambda value: value == 2)))
    for size, calls in ((1, 1_000), (10, 500), (100, 200)):
        whole = size << 10
        workloads.append(
            (f"a3in-{size}KiB", calls, lambda n, size=size, whole=whole: queued(length, text[size], n, lambda v: v == whole))
        )
        workloads.append(
            (f"a3out-{size}KiB", calls, lambda n, whole=whole: queued(filled, whole, n, lambda v: len(v) == whole))
        )
    for workload, calls, run in workloads:
        samples = []
        for _ in range(5):
            start = time.perf_counter_ns()
            run(calls)
            samples.append((time.perf_counter_ns() - start) / calls)
        median = statistics.median(samples)
        print(f"{workload} {contender} {median:.1f} {min(samples):.1f} - n=5 per_s={1e9 / median:.0f}", flush=True)


def main():
    version = f"py{sys.version_info.major}.{sys.version_info.minor}"
    for kind, pool in (("default", "prefork"), ("default", "solo"), ("safe", "prefork")):
        environment = dict(os.environ, CELERY_KIND=kind, PYTHONPATH=os.path.dirname(os.path.abspath(__file__)))
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=ERROR"]
        command = [sys.executable, "-m", "celery", "-A", "celery_tasks", "worker", f"--pool={pool}", "--concurrency=2"]
        worker = subprocess.Popen(command + quiet, env=environment, stdout=subprocess.DEVNULL)
        try:
            contender = f"{version}/celery-{kind}-{pool}"
            subprocess.run([sys.executable, __file__, "--measure", contender], env=environment, check=True, timeout=600)
        finally:
            worker.terminate()
            worker.wait(timeout=60)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2])
    else:
        main()
