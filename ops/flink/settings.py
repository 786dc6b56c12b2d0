"""Flink's configuration for Seawall: what its correctness needs, and what a small cluster on one machine needs."""

from pathlib import Path

from seawall.ops.flink.artifacts import Home

HOST = "127.0.0.1"
HEAP_MB = 256
WAIT_MS = 200 * 86_400_000  # Flink takes no more than 248 days
OPENS = (
    "java.base/java.lang", "java.base/java.net", "java.base/java.io", "java.base/java.nio", "java.base/sun.nio.ch",
    "java.base/java.lang.reflect", "java.base/java.text", "java.base/java.time", "java.base/java.util",
    "java.base/java.util.concurrent", "java.base/java.util.concurrent.atomic", "java.base/java.util.concurrent.locks",
)  # fmt: skip
JVM = (
    f"-Xmx{HEAP_MB + 128}m", "-XX:MaxMetaspaceSize=256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
    *(f"--add-opens={name}=ALL-UNNAMED" for name in OPENS),
)  # fmt: skip


def job_settings(home: Home) -> dict[str, str]:
    """Return what every job of Seawall needs, wherever it runs."""
    return {
        # A process-mode job finds no state of a thread-mode one under its names, and would begin empty.
        "python.execution-mode": "thread",
        "python.executable": str(home.python),
        "python.client.executable": str(home.python),
        "python.pythonpath": f"{home.seawall()}:{home.packages}",
        "execution.checkpointing.mode": "EXACTLY_ONCE",
        "execution.checkpointing.interval": "1 s",
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "execution.checkpointing.num-retained": "3",
        "execution.checkpointing.savepoint-dir": "",
        # Outputs do not wait for checkpoints, so a job goes on deciding while their store is full or away.
        "execution.checkpointing.tolerable-failed-checkpoints": "2147483647",
        "state.backend.type": "hashmap",
        "restart-strategy.type": "exponential-delay",
        "restart-strategy.exponential-delay.initial-backoff": "200 ms",
        "restart-strategy.exponential-delay.max-backoff": "10 s",
        "restart-strategy.exponential-delay.reset-backoff-threshold": "1 min",
    }


def cluster_settings(home: Home, folder: Path, rpc: int, rest: int, slots: int) -> dict[str, str]:
    """Return the whole configuration of a cluster on this machine."""
    return job_settings(home) | {
        "execution.target": "remote",
        "jobmanager.rpc.address": HOST,
        "jobmanager.rpc.port": str(rpc),
        "jobmanager.bind-host": HOST,
        "jobmanager.memory.heap.size": f"{HEAP_MB}m",
        "rest.address": HOST,
        "rest.bind-address": HOST,
        "rest.port": str(rest),
        "rest.bind-port": str(rest),
        "web.submit.enable": "false",
        "taskmanager.bind-host": HOST,
        "taskmanager.host": HOST,
        "taskmanager.jvm-exit-on-oom": "true",
        "taskmanager.numberOfTaskSlots": str(slots),
        "taskmanager.cpu.cores": "1.0",
        "taskmanager.memory.task.heap.size": f"{HEAP_MB}m",
        "taskmanager.memory.task.off-heap.size": "0m",
        "taskmanager.memory.framework.heap.size": "128m",
        "taskmanager.memory.framework.off-heap.size": "64m",
        "taskmanager.memory.network.min": "32m",
        "taskmanager.memory.network.max": "32m",
        "taskmanager.memory.managed.size": "16m",
        "taskmanager.memory.jvm-metaspace.size": "256m",
        "taskmanager.memory.jvm-overhead.min": "64m",
        "taskmanager.memory.jvm-overhead.max": "64m",
        # A job that lost its TaskManager waits for another one, instead of failing again and again until it is there.
        "resourcemanager.standalone.start-up-time": str(WAIT_MS),
        "heartbeat.interval": "1000",
        "heartbeat.timeout": "8000",
        "classloader.parent-first-patterns.additional": "pemja",
        "execution.checkpointing.dir": f"file://{folder / 'checkpoints'}",
        "execution.checkpointing.savepoint-dir": f"file://{folder / 'savepoints'}",
        "io.tmp.dirs": str(folder / "tmp"),
    }


def as_yaml(settings: dict[str, str]) -> str:
    """Return settings as Flink's ``config.yaml``."""
    return "".join(f'{name}: "{value}"\n' for name, value in settings.items())
