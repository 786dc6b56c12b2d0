"""Clients of a cluster: their settings, secrets and error messages, and the batches that are given to them.

librdkafka reports half of a failure as a time-out and the other half, the reason, to a callback in another thread: both
are put together here, in one line that says what to do next. Secrets are read here and go nowhere but to librdkafka.

`RecordBatches` gives records to a client so that no partition has more of them waiting than go in one batch. librdkafka
2.16 sends the next batch of a partition once the one before was answered, and waits for that answer in a loop without
rest: a thread takes a whole core while the broker is slow, which on the broker's own machine makes it slower
(decision 0016). With nothing left to send it sleeps.
"""

import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient

from seawall.connectors.bus.kafka._cluster import Address, allowed_call_s, is_deadline_over
from seawall.schemas.configuration import KafkaTerms
from seawall.schemas.errors import BusError, PartitionLocked, UsageError

# Clients of a cluster: their settings, their secrets, and what they say when something is wrong.

log = logging.getLogger("seawall")
# librdkafka writes to standard error by itself: what matters comes through `error_cb`.
QUIET = logging.getLogger("seawall.librdkafka")
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False
HINTS = {
    KafkaError._ALL_BROKERS_DOWN: "start the cluster, or correct bus",
    KafkaError._TRANSPORT: "start the cluster, or correct bus",
    KafkaError._RESOLVE: "correct the host in bus",
    KafkaError._TIMED_OUT: "see whether the cluster is up and its partitions have leaders",
    KafkaError._AUTHENTICATION: "correct username, password or certificate, or client_id and client_secret, in [kafka]",
    KafkaError.SASL_AUTHENTICATION_FAILED: "correct username and password in [kafka]",
    KafkaError._SSL: "correct ca, certificate and key in [kafka]",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "grant what `seawall topics acl` lists",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "grant what `seawall topics acl` lists",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "grant what `seawall topics acl` lists",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "make it with `seawall topics create`; a topic that was deleted is lost",
    KafkaError._UNKNOWN_TOPIC: "make it with `seawall topics create`; a topic that was deleted is lost",
    KafkaError._UNKNOWN_PARTITION: "make it with `seawall topics create`; a topic that was deleted is lost",
    KafkaError._AUTO_OFFSET_RESET: "retention took it, or the topic was made anew; see `seawall topics check`",
    KafkaError.MSG_SIZE_TOO_LARGE: "set max.message.bytes of the topic to 1048576; see `seawall topics check`",
    KafkaError.NOT_ENOUGH_REPLICAS: "bring the missing brokers back",
    KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND: "bring the missing brokers back",
    KafkaError.KAFKA_STORAGE_ERROR: "free disk space on the broker, and start it again",
    KafkaError._INVALID_ARG: "correct ca, certificate and key in [kafka]",
    KafkaError._MSG_TIMED_OUT: "bring the cluster back, and run again to continue",
    # What a broker may answer to a writer that is fenced in mid-commit.
    KafkaError.UNKNOWN: "another writer may have taken over: let one run only, and see the log of the broker",
}
VAGUE = (KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._MSG_TIMED_OUT)
TOLD_MAX = 20
BATCH_BYTES = 4 * 1024 * 1024
PACE_MS = 5
GATHERING_MS = 1000  # what is produced waits for a flush, which waits for nothing
C = TypeVar("C", Consumer, Producer, AdminClient)


class Clients:
    """Makes clients of one cluster and remembers what they complain of."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.tell_stranger: Callable[[str, int, str], None] | None = None
        self._told: deque[KafkaError] = deque(maxlen=TOLD_MAX)
        self._common = {
            "bootstrap.servers": address.servers,
            "client.id": "seawall",
            "error_cb": self._told.append,
            "logger": QUIET,
            "allow.auto.create.topics": False,
            "socket.keepalive.enable": True,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1000,
            **security(address.terms),
        }

    def consumer(self, wait_ms: int, committed: bool = True, paced: bool = False) -> Consumer:
        """Return a consumer that is assigned, never subscribed, and never jumps.

        Parameters
        ----------
        wait_ms
            How long the broker holds a request at the end of a partition: also how soon that end is known.
        committed
            Sees committed records only.
        paced
            Asks for more only once what came was taken, ``PACE_MS`` later at the latest: of a topic whose producers
            write hundreds of times a second it would else ask as often, and each question costs the broker as much as
            the records of a batch. After silence the first record comes at once all the same.
        """
        settings: dict[str, Any] = {
            "group.id": "seawall-unused",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed" if committed else "read_uncommitted",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": wait_ms,
            "fetch.error.backoff.ms": 50,
            "fetch.queue.backoff.ms": 20,
            "queued.max.messages.kbytes": 16 * 1024,
            "fetch.message.max.bytes": BATCH_BYTES,
        }
        if paced:
            settings |= {"queued.min.messages": 1, "fetch.queue.backoff.ms": PACE_MS}
        return self._made(Consumer, settings)

    def producer(self, transactional_id: str) -> Producer:
        """Return an idempotent producer; opening it with ``init_transactions`` fences an earlier one of its name."""
        outage_ms = self.address.terms.outage_s * 1000
        settings = {
            "transactional.id": transactional_id,
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": GATHERING_MS,
            "compression.type": self.address.terms.compression,
            "transaction.timeout.ms": outage_ms,
            "message.timeout.ms": outage_ms,
            "queue.buffering.max.messages": 100_000,
            "queue.buffering.max.kbytes": 64 * 1024,
        }
        return self._made(Producer, settings)

    def plain_producer(self) -> Producer:
        """Return an idempotent producer without transactions: what it writes has no marks in between."""
        outage_ms = self.address.terms.outage_s * 1000
        settings = {"enable.idempotence": True, "acks": "all", "message.timeout.ms": outage_ms}
        return self._made(Producer, {**settings, "linger.ms": GATHERING_MS})

    def admin(self) -> AdminClient:
        """Return a client that makes and describes topics."""
        return self._made(AdminClient, {})

    def _made(self, kind: type[C], settings: dict[str, Any]) -> C:
        """Return a client; raises BusError where its settings cannot be used, such as a file that is no certificate."""
        try:
            return kind({**self._common, **settings})
        except KafkaException as error:
            raise self.failed("the settings of [kafka] cannot be used", error) from error

    def failed(
        self, what: str, error: KafkaError | KafkaException, client: Consumer | Producer | AdminClient | None = None
    ) -> BusError:
        """Return the error that says in one line what could not be done, why, and what to do next.

        Parameters
        ----------
        client
            Whose callbacks are asked for the reason, which nothing else delivers.
        """
        if client is not None:
            with contextlib.suppress(KafkaException):  # of a fatal error; it is in hand already
                client.poll(0)
        cause = error.args[0] if isinstance(error, KafkaException) else error
        if cause.code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH):
            text = "another writer took over, and this one wrote nothing; let one run only"
            # The cluster says the same to the only one when it ends a transaction that is open for too long.
            return PartitionLocked(f"{what}: {text}; where only one does, it was held up for outage_s: run it again")
        reason = self._reason(cause)
        text = " ".join(reason.str().split())
        code = KafkaError._SSL if reason.code() in VAGUE and "SSL" in text else reason.code()
        hint = HINTS.get(code, "see the log of the broker, and run again to continue")
        return BusError(f"{what}: {text} ({reason.name()}); {hint}")

    def _reason(self, cause: KafkaError) -> KafkaError:
        """Return what explains a failure: of a time-out or a lost connection, what the callback was told last."""
        if cause.code() not in VAGUE:
            return cause
        plain = [told for told in self._told if told.code() not in VAGUE]
        lost = [told for told in self._told if told.code() == KafkaError._TRANSPORT]  # says what happened to it
        return (plain or lost or [cause])[-1]


def security(terms: KafkaTerms) -> dict[str, Any]:
    """Return librdkafka's settings for encryption and authentication, secrets read.

    Raises
    ------
    UsageError
        A file or a secret is missing.
    """
    encrypted = terms.tls or bool(terms.ca or terms.certificate)
    found: dict[str, Any] = {
        "security.protocol": ("SASL_" if terms.sasl else "")
        + ("SSL" if encrypted else "PLAINTEXT" if terms.sasl else "")
        or "PLAINTEXT",
        "ssl.ca.location": _file(terms, "ca"),
        "ssl.certificate.location": _file(terms, "certificate"),
        "ssl.key.location": _file(terms, "key"),
        "ssl.key.password": read_secret(terms, "key_password"),
        "sasl.mechanism": terms.sasl,
    }
    if terms.sasl == "OAUTHBEARER":
        found |= {
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.token.endpoint.url": terms.token_url,
            "sasl.oauthbearer.client.id": terms.client_id,
            "sasl.oauthbearer.client.secret": read_secret(terms, "client_secret"),
            "sasl.oauthbearer.scope": terms.scope,
        }
    elif terms.sasl:
        found |= {"sasl.username": terms.username, "sasl.password": read_secret(terms, "password")}
    return {name: value for name, value in found.items() if value}


def read_secret(terms: KafkaTerms, name: str) -> str:
    """Return a secret of ``[kafka]`` from the file or the environment variable that it names."""
    kind, _, rest = getattr(terms, name).partition(":")
    if kind == "env":
        found = os.environ.get(rest, "").rstrip("\r\n")  # as what `echo` makes has one
        if not found:
            raise UsageError(f"[kafka] {name}: the environment variable {rest} is not set")
        return found
    if kind == "file":
        path: Path = terms.directory / rest
        try:
            return path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not UTF-8"
            raise UsageError(f"[kafka] {name}: {path} cannot be read: {why}") from None
    return ""


def _file(terms: KafkaTerms, name: str) -> str:
    """Return the path of a PEM file of ``[kafka]``, absolute."""
    text = getattr(terms, name)
    path: Path = terms.directory / text
    if text and not path.is_file():
        raise UsageError(f"[kafka] {name}: {path} does not exist")
    return str(path) if text else ""


# Sending in batches: no partition has more records waiting in a client than go in one batch.

# Within what librdkafka puts in one batch: a megabyte and 10,000 records.
WAITING_BYTES_MAX, WAITING_RECORDS_MAX = 900 * 1024, 5_000
RECORD_BYTES = 64  # of a record beside its own bytes, about
CALL_S = 1.0
Headers = list[tuple[str, str | bytes | None]]


class RecordBatches:
    """Records on their way to a cluster.

    Parameters
    ----------
    producer
        Whose ``linger.ms`` is long: what is given to it waits for ``flush``.
    what
        Is written, for messages.
    outage_s
        How long to wait for a cluster that does not answer, in seconds.
    """

    def __init__(self, producer: Producer, what: str, outage_s: float) -> None:
        self._producer, self._what, self._outage_s = producer, what, outage_s
        self._waiting: dict[tuple[str, int], tuple[int, int]] = {}

    def add(
        self,
        topic: str,
        partition: int,
        key: bytes,
        value: bytes,
        headers: Headers,
        delivered: Callable[[KafkaError | None, Message], Any],
    ) -> None:
        """Take one record; wait until what is under way was answered where a batch is full.

        Raises
        ------
        BusError
            The cluster takes no records.
        KafkaException
            The client refuses the record.
        """
        place = topic, partition
        count, size = self._waiting.get(place, (0, 0))
        more = RECORD_BYTES + len(key) + len(value) + sum(len(name) + len(text or "") for name, text in headers)
        if count == WAITING_RECORDS_MAX or (count and size + more > WAITING_BYTES_MAX):
            self.flush()
            count = size = 0
        self._waiting[place] = count + 1, size + more
        try:
            self._producer.produce(topic, value, key, partition=partition, headers=headers, on_delivery=delivered)
        except BufferError:  # many partitions have their batches here
            self.flush()
            self._producer.produce(topic, value, key, partition=partition, headers=headers, on_delivery=delivered)

    def flush(self) -> None:
        """Wait until the cluster answered for all records; what it answered, callbacks were told.

        Raises
        ------
        BusError
            It did not answer in time, or the client has ended and lost why.
        KafkaException
            The client has ended: it may not write at all, say.
        """
        self._waiting.clear()
        deadline = time.monotonic() + self._outage_s
        try:
            while left := self._producer.flush(allowed_call_s(CALL_S)):
                if is_deadline_over(deadline):
                    text = f"{left} records were not taken by the cluster in time; bring it back, and run this again"
                    raise BusError(f"{self._what} cannot be written: {text}")
        except SystemError as error:  # the binding gave up what librdkafka raised; the log of the client has the text
            text = "the client has ended for what its log line FATAL says; if it may not write, `seawall topics acl`"
            raise BusError(f"{self._what} cannot be written: {text} lists what it must be allowed") from error
