"""One trace from event to command, for OpenTelemetry: made beside the run, from what stands on the topics.

A command's id is a hash of what caused it, so it *is* the trace: its first 16 bytes are the trace id. No record carries
a trace header, replicas and replays name the same trace, and a subscriber continues it by computing the same 16 bytes.

==================  =====================================================================================
``command KIND``    the whole: from the beginning of the slice that caused it until it is answered, or seen
``gather``          the slice's interval of event time, in which the events that caused it came
``sequence``        from the end of the interval to the cut, when the slice was journaled
``decide``          from the cut until the signed command was seen on its topic, by this process's look
``acknowledge``     from then until a subscriber's first answer, by its own clock
==================  =====================================================================================
"""

import logging
import random
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator

import seawall
from seawall.connectors.bus import Bus
from seawall.schemas.configuration import Configuration
from seawall.schemas.decoding import decode_event
from seawall.schemas.errors import Rejected
from seawall.schemas.events import Acknowledgement
from seawall.schemas.records import Stored, decode_slice

log = logging.getLogger("seawall")
OPEN_MAX = 1000  # commands that wait for an answer; beyond that the oldest is told without one
ANSWER_S = 60.0  # after which a command is told without an answer
CAUSES_MAX = 10
Clock = Callable[[], int]


class Waiting(NamedTuple):
    """A command that was seen, and when."""

    payload: dict[str, Any]
    began_us: int
    as_of_us: int
    cut_us: int
    seen_us: int


class CommandIds(IdGenerator):
    """Trace ids of commands, span ids by chance."""

    def __init__(self) -> None:
        self.trace_id = 1
        self._chance = random.SystemRandom()

    def generate_trace_id(self) -> int:
        """Return the trace of the command that is being told."""
        return self.trace_id

    def generate_span_id(self) -> int:
        """Return a new span's id."""
        return self._chance.getrandbits(64) or 1


def trace_id_of(command_id: str) -> int:
    """Return the trace id of a command: the first 16 bytes of its id."""
    return int(command_id[:32], 16) or 1


class Traces:
    """Tells an exporter of each command that comes from now on.

    Parameters
    ----------
    bus
        The bus; only the thread that looks uses it.
    exporter
        Where spans go.
    clock
        Microseconds since the epoch.
    """

    def __init__(
        self,
        configuration: Configuration,
        bus: Bus,
        exporter: SpanExporter,
        clock: Clock = lambda: time.time_ns() // 1000,
    ) -> None:
        self._bus, self._clock, self._slice_us = bus, clock, configuration.slice_ms * 1000
        self._ids = CommandIds()
        names = {"service.name": "seawall", "service.version": seawall.__version__}
        names |= {"deployment.environment.name": configuration.environment, "seawall.issuer": configuration.issuer}
        self._provider = TracerProvider(resource=Resource.create(names), id_generator=self._ids)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("seawall", seawall.__version__)
        self._waiting: OrderedDict[str, Waiting] = OrderedDict()
        self._offsets = {
            (topic, partition): bus.end(topic, partition)
            for topic in ("commands", "acknowledgements")
            for partition in bus.partitions(topic)
        }

    def look(self) -> None:
        """Take what has come since; tell of what is answered, or has waited long enough."""
        for topic, take in (("commands", self._command), ("acknowledgements", self._answer)):
            for partition in self._bus.partitions(topic):
                for stored in self._bus.read(topic, partition, self._offsets.get((topic, partition), 0)):
                    take(stored)
                    self._offsets[topic, partition] = stored.offset + 1
        late = self._clock() - int(ANSWER_S * 1e6)
        while self._waiting:
            first = next(iter(self._waiting.values()))
            if first.seen_us > late and len(self._waiting) <= OPEN_MAX:
                break
            self._waiting.popitem(last=False)
            self._report(first, None)

    def close(self) -> None:
        """Tell of all that waits, and let the exporter finish."""
        for waiting in self._waiting.values():
            self._report(waiting, None)
        self._waiting.clear()
        self._provider.shutdown()

    def _command(self, stored: Stored) -> None:
        payload = orjson.loads(stored.value)
        began, as_of, cut = self._slice(payload["evidence"])
        self._waiting[payload["id"]] = Waiting(payload, began, as_of, cut, self._clock())

    def _slice(self, evidence: dict[str, Any]) -> tuple[int, int, int]:
        """Return when the slice that caused a command began, ended and was cut; a second's where no shard is named."""
        as_of_us = evidence["as_of_us"]
        for cause in evidence.get("causes", ()):
            kind, _, place = cause.partition(":")
            if kind == "journal":
                shard, _, seq = place.partition(":")
                found = self._bus.read("journal", int(shard), int(seq), 1)
                if found:
                    piece = decode_slice(found[0].value)
                    return piece.as_of_us - self._slice_us, piece.as_of_us, piece.cut_us
        return as_of_us - self._slice_us, as_of_us, as_of_us

    def _answer(self, stored: Stored) -> None:
        try:
            answer = decode_event(stored.value)
        except Rejected:
            return  # sequence says so
        if isinstance(answer, Acknowledgement) and answer.command_id in self._waiting:
            self._report(self._waiting.pop(answer.command_id), answer)

    def _report(self, waiting: Waiting, answer: Acknowledgement | None) -> None:
        payload = waiting.payload
        self._ids.trace_id = trace_id_of(payload["id"])
        reason, evidence = payload["reason"], payload["evidence"]
        attributes = {
            "seawall.command.id": payload["id"],
            "seawall.command.kind": payload["type"],
            "seawall.target": f"{payload['target']['scope']}:{payload['target']['id']}",
            "seawall.rule": reason["rule"],
            "seawall.causes": list(evidence.get("causes", []))[:CAUSES_MAX],
            **({"seawall.limit": reason["limit"]} if "limit" in reason else {}),
            **({"seawall.outcome": answer.outcome, "seawall.subscriber": answer.subscriber} if answer else {}),
        }
        stages = [
            ("gather", waiting.began_us, waiting.as_of_us),
            ("sequence", waiting.as_of_us, waiting.cut_us),
            ("decide", waiting.cut_us, waiting.seen_us),
        ]
        if answer is not None:
            stages.append(("acknowledge", waiting.seen_us, answer.event_time_us))
        context = trace.set_span_in_context(trace.INVALID_SPAN)
        root = self._tracer.start_span(
            f"command {payload['type']}", context, attributes=attributes, start_time=waiting.began_us * 1000
        )
        inside = trace.set_span_in_context(root)
        ended = waiting.began_us
        for name, start_us, end_us in stages:
            ended = max(ended, start_us, end_us)
            self._tracer.start_span(name, inside, start_time=start_us * 1000).end(max(start_us, end_us) * 1000)
        root.end(ended * 1000)
