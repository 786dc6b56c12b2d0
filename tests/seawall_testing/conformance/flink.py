"""The cases of `seawall_testing.conformance` on Flink; run in Flink's environment, on a cluster inside one process.

The same coat as in production (`seawall.dataflows.flink._dataflows`): one key per case, Flink keeps the last snapshot
and the items since. Half of the items, a savepoint, twice as many subtasks, the other half.
"""

import base64
import sys
import time
from pathlib import Path
from typing import Any

from pyflink.common import Configuration, Duration, JobClient, Types, WatermarkStrategy
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.datastream.connectors.file_system import FileSource, StreamFormat
from pyflink.java_gateway import get_gateway

from seawall.dataflows.flink._changelog_state import ChangelogState, Store
from seawall.dataflows.flink._dataflows import BYTES, Open, StepFunction
from seawall.dataflows.flink._key_routing import GROUPS, flink_key, partition_of
from seawall.operators.core.pipeline import StepResult as Step
from seawall.ops.flink.artifacts import Home
from seawall.ops.flink.cluster import job_settings
from seawall_testing.conformance import (
    Numbered,
    OutputFile,
    Taken,
    count_outputs,
    decode_item,
    interleaved,
    output_path,
    provided,
    write_items,
)

TAIL_MAX = 5
OUTPUTS_S = 240.0


class CaseStep:
    """A case as a step of bytes."""

    def __init__(self, state: Numbered) -> None:
        self._state = state
        self.snapshot = state.snapshot

    def step(self, value: bytes) -> Step:
        """Take one encoded item."""
        return Step([self._state.step(decode_item(value)[1])], None, False)


class FileSink:
    """Appends outputs to the file of a case; those that stand are compared."""

    def __init__(self, path: Path) -> None:
        self._file, self._taken = OutputFile(path), Taken({})
        for output in self._file.read():
            self._taken.add(*output)

    def write(self, items: list[Any]) -> None:
        """Take outputs; they are durable at once."""
        for output in items:
            if self._taken.add(*output):
                self._file.append(*output)

    def pump(self) -> bool:
        """Return False: nothing waits."""
        return False

    def flush(self) -> None:
        """Do nothing: everything is durable."""

    close = flush


def openers(provider: str, folder: str) -> Open:
    """Return what opens the keeper of a case."""
    subjects = provided(provider)
    names = list(subjects)

    def open_case(place: int, store: Store) -> ChangelogState:
        snapshot, values = store.read()
        state = Numbered(subjects[names[place]]) if snapshot is None else Numbered.restore(snapshot, subjects)
        keeper = ChangelogState(
            CaseStep(state), FileSink(output_path(Path(folder), place)), store, tail_values_max=TAIL_MAX
        )
        keeper.resume(values)
        return keeper

    return open_case


def submit(provider: str, folder: Path, parallelism: int, savepoint: str) -> JobClient:
    """Start the job on the items that come into the folder."""
    settings = job_settings(Home(Path(sys.prefix))) | {"restart-strategy.type": "none"}
    settings["python.pythonpath"] += "".join(f":{path}" for path in sys.path if path)
    settings["execution.checkpointing.savepoint-dir"] = f"file://{folder / 'savepoints'}"
    settings |= {"execution.state-recovery.path": savepoint} if savepoint else {}
    configuration = Configuration()
    for name, value in settings.items():
        configuration.set_string(name, value)
    environment = StreamExecutionEnvironment.get_execution_environment(configuration)
    environment.set_parallelism(1)
    source = (
        FileSource.for_record_stream_format(StreamFormat.text_line_format(), str(folder / "items"))
        .monitor_continuously(Duration.of_millis(100))
        .build()
    )
    stream = environment.from_source(source, WatermarkStrategy.no_watermarks(), "items").uid("items")
    (
        stream.map(base64.b64decode, output_type=BYTES())
        .uid("decode")
        .key_by(lambda value: flink_key(decode_item(value)[0]), key_type=Types.INT())
        .process(StepFunction(lambda: openers(provider, str(folder)), partition_of), output_type=BYTES())
        .uid("cases")
        .set_parallelism(parallelism)
        .set_max_parallelism(GROUPS)
    )
    return environment.execute_async("conformance")


def await_outputs(job: JobClient, folder: Path, wanted: int) -> None:
    """Wait until so many outputs stand.

    Raises
    ------
    RuntimeError
        The job ended, or took too long.
    """
    deadline = time.monotonic() + OUTPUTS_S
    while count_outputs(folder) < wanted:
        if job.get_job_status().result().name in ("FAILED", "FINISHED", "CANCELED"):
            job.get_job_execution_result().result()
            raise RuntimeError("the job ended")
        if time.monotonic() > deadline:
            raise RuntimeError(f"{count_outputs(folder)} of {wanted} outputs stand after {OUTPUTS_S:.0f} s")
        time.sleep(0.1)


def stop(job: JobClient, folder: Path) -> str:
    """Stop a job at a savepoint; return where it is. PyFlink's own method calls one that Flink 2 has no more."""
    form = get_gateway().jvm.org.apache.flink.core.execution.SavepointFormatType.CANONICAL
    return str(job._j_job_client.stopWithSavepoint(False, str(folder), form).get())


def main(provider: str, folder: Path) -> None:
    """Run all cases."""
    for name in ("items", "outputs", "savepoints"):
        (folder / name).mkdir(parents=True)
    subjects = provided(provider)
    places = {name: place for place, name in enumerate(subjects)}
    items = [(places[name], item) for name, item in interleaved(subjects.values())]
    half = len(items) // 2
    write_items(folder / "items" / "1", items[:half])
    job = submit(provider, folder, 1, "")
    await_outputs(job, folder, half)
    savepoint = stop(job, folder / "savepoints")
    write_items(folder / "items" / "2", items[half:])
    job = submit(provider, folder, 2, savepoint)
    await_outputs(job, folder, len(items))
    job.cancel().result()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
