"""Every decoder against inputs that nobody would send: a stored corpus, changed at random, without end.

A target names a decoder, the errors it may raise, and where its seeds lie. Whatever else it raises is a finding; put
the input into ``tests/fuzz_corpus`` beside the mend. JSON seeds are changed as values and as bytes, others as bytes.
"""

import base64
import copy
import json
import random
import tomllib
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from seawall.connectors.agent import parse_pae
from seawall.connectors.keys import AgentRefusal
from seawall.connectors.mapping import read_mapping
from seawall.connectors.venues import VENUES, Message
from seawall.operators.core.base import DocumentError, pack, parse_json, unpack, unpack_numbers
from seawall.schemas.configuration import read_playbook, read_response
from seawall.schemas.configuration._sections import HealthTerms, MarketTerms
from seawall.schemas.decoding import decode_event
from seawall.schemas.errors import Rejected, SnapshotError, UsageError, VerificationError
from seawall.schemas.evidence import (
    COMMAND,
    STATE,
    AcceptancePolicy,
    LimitDocument,
    Malformed,
    Refused,
    parse_envelope,
    parse_strict,
)
from seawall.schemas.generate import OUTPUTS, decode_output
from seawall.schemas.measures import read_limits
from seawall.schemas.records import Redrive, decode_slice
from seawall.schemas.tables import check_table
from seawall.schemas.transparency import Checkpoint, CosignatureRequest, Note, NoteKey, TlogProof, decode_bundle
from seawall_testing import signing
from seawall_testing.paths import FUZZ_CORPUS

NOW_US = 1_700_000_000_000_000
INPUT_BYTES_MAX = 20_000
Decode = Callable[[bytes], object]
Errors = tuple[type[BaseException], ...]

NASTY: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**63, -(2**63) - 1, 10**40, 0.1, 1e308, -0.0, "", "x", "x" * 3000, "\x00", "\ud800",
    "é", "NaN", "Infinity", "1e999", "0x10", "1_000", " 1", "-0", "+5", "٣", "1." + "0" * 60, "../../etc/passwd", [],
    {}, [[]], [None], {"": None}, {"a": {"a": {"a": 1}}}, list(range(200)),
)  # fmt: skip
BYTES = (b"\x00", b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"[" * 2000, b'{"a":' * 500, b"9" * 400, b"\r\n", b'"', b"\\u")
LIMITS = b'[[limit]]\nid = "g"\nscope = "account:*"\nmeasure = "gross_notional"\nsoft = 1000\nhard = 5000\n'
PLAYBOOK = (
    b'[[rule]]\nid = "r"\nwhen = { limit = "g", level = "soft" }\ncooldown_s = 1\n'
    b'commands = [ { kind = "REDUCE_ONLY", target = "account" } ]\n[response]\nacknowledge_s = 5\n'
)
FEED = (
    b'format = "json"\n[[record]]\ntype = "mark"\nwhen = { kind = "PRICE" }\n[record.fields]\n'
    b'event_time_us = { from = "at", time = "iso" }\ninstrument = "sym"\nprice = "mid"\n'
)


class Target(NamedTuple):
    """A decoder: its name, its seeds, and what it may raise."""

    name: str
    seeds: list[bytes]
    decode: Decode
    raises: Errors


def corpus(name: str) -> list[bytes]:
    """Return the stored inputs of a target."""
    found = []
    for line in (FUZZ_CORPUS / f"{name}.jsonl").read_text().splitlines():
        one = json.loads(line)
        found.append(one["text"].encode() if "text" in one else base64.b64decode(one["base64"]))
    return found


def targets() -> list[Target]:
    """Return all targets, with decoders of their own: those of venues remember books."""
    plain: list[tuple[str, Decode, Errors]] = [
        ("event", decode_event, (Rejected,)),
        ("slice", decode_slice, (msgspec.MsgspecError,)),
        ("strict", parse_strict, (Malformed,)),
        ("envelope", parse_envelope, (Malformed,)),
        ("limit_document", LimitDocument.parse, (Malformed,)),
        ("note", Note.parse, (VerificationError,)),
        ("vkey", _text(NoteKey.parse), (VerificationError,)),
        ("checkpoint", _text(Checkpoint.parse), (VerificationError,)),
        ("proof", TlogProof.parse, (VerificationError,)),
        ("bundle", decode_bundle, (ValueError,)),
        ("witness_request", CosignatureRequest.parse, (VerificationError,)),
        ("redrive", Redrive.decode, (Rejected,)),
        ("feed", read_mapping(tomllib.loads(FEED.decode()), "oms.toml").read, (Rejected,)),
    ]
    plain += [(f"output_{topic}", _output(topic), (msgspec.MsgspecError,)) for topic in OUTPUTS]
    found = [Target(name, corpus(name), decode, raises) for name, decode, raises in plain]
    found[12].seeds.append(b'{"kind":"PRICE","at":"2023-11-14T22:13:20Z","sym":"ETH-PERP","mid":"100.5"}')
    found += [Target(f"venue_{name}", corpus(f"venue_{name.replace('_', '')}"), _venue(name), ()) for name in VENUES]
    genuine = [signing.encode(document) for document in (signing.command(), signing.state(1), signing.heartbeat(1))]
    found.append(Target("accept", genuine, _accept(), (Refused,)))
    found.append(Target("saccr", [b'{"netting_sets":[{"id":"a","trades":[]}]}'], parse_json, (DocumentError,)))
    found.append(Target("pae", [b"DSSEv1 1 a 1 b"], parse_pae, (AgentRefusal,)))
    found.append(Target("flat", [b"demo/01 " * 4], _flat, (SnapshotError,)))
    found.append(Target("snapshot", [pack("demo/1", {"a": [1, "b", b"c"]})[8:]], _snapshot, (SnapshotError,)))
    tables: list[tuple[str, bytes, Callable[[dict[str, Any]], object]]] = [
        ("limits", LIMITS, lambda table: read_limits(table, "l.toml")),
        ("playbook", PLAYBOOK, lambda table: (read_playbook(table, "p.toml", ["g"]), read_response(table, "p.toml"))),
        ("mapping", FEED, lambda table: read_mapping(table, "f.toml")),
        ("market", b"[market]\ngroups = 2\n", lambda table: check_table(table, MarketTerms, "d.toml")),
        ("health", b'[health]\nlisten = "127.0.0.1:1"\n', lambda table: check_table(table, HealthTerms, "d.toml")),
    ]
    return found + [Target(f"toml_{name}", [seed], _toml(read), (UsageError,)) for name, seed, read in tables]


def attack(target: Target, inputs: int, seed: int) -> Counter[str]:
    """Send changed inputs to a target; return how many were taken and how many refused, by error.

    Raises
    ------
    AssertionError
        The target raised something else; the text holds the input.
    """
    rng, told = random.Random(f"{target.name} {seed}"), Counter[str]()
    for number in range(inputs):
        data = target.seeds[number] if number < len(target.seeds) else mutate(rng, target.seeds)
        try:
            target.decode(data)
            told["taken"] += 1
        except target.raises as error:
            told[type(error).__name__] += 1
        except Exception as error:
            shown = base64.b64encode(data).decode()
            raise AssertionError(f"{target.name} raised {type(error).__name__} ({error}) of {shown}") from error
    return told


def mutate(rng: random.Random, seeds: list[bytes]) -> bytes:
    """Return a seed, changed one to four times, as a JSON value where it is one or as bytes."""
    data = rng.choice(seeds)
    for _ in range(rng.randint(1, 4)):
        data = _change_value(rng, data) if rng.random() < 0.5 else _change_bytes(rng, data, seeds)
    return data[:INPUT_BYTES_MAX]


def _change_value(rng: random.Random, data: bytes) -> bytes:
    try:
        root = [json.loads(data)]
    except (ValueError, RecursionError):
        return data
    holder: Any = root
    while True:  # down to some value
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        key = rng.choice(list(keys))
        inside = holder[key]
        if not isinstance(inside, dict | list) or not inside or rng.random() < 0.2:
            break
        holder = inside
    action = rng.randrange(4)
    if action == 0 and isinstance(holder, dict):
        holder[rng.choice(["", "type", "x", key + "x"])] = holder.pop(key)
    elif action == 1 and holder is not root:
        del holder[key]
    else:
        holder[key] = copy.deepcopy(rng.choice(NASTY))
    try:
        return json.dumps(root[0], ensure_ascii=rng.random() < 0.5, separators=(",", ":")).encode(
            "utf-8", "surrogatepass"
        )
    except RecursionError:
        return data


def _change_bytes(rng: random.Random, data: bytes, seeds: list[bytes]) -> bytes:
    at, action = rng.randrange(len(data) + 1), rng.randrange(6)
    to = min(len(data), at + rng.randrange(1, 40))
    if action == 0:
        return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    if action == 1:
        return data[:at] + rng.choice(BYTES) + data[at:]
    if action == 2:
        return data[:at] + data[to:]
    if action == 3:
        return data[:to] + data[at:]
    if action == 4:
        return data[:at]
    other = rng.choice(seeds)
    return data[:at] + other[rng.randrange(len(other) + 1) :]


# --- decoders that want a little around them --------------------------------------------------------------------------


def _text(parse: Callable[[str], object]) -> Decode:
    return lambda data: parse(data.decode(errors="replace"))


def _output(topic: str) -> Decode:
    return lambda data: decode_output(topic, data)


def _venue(name: str) -> Decode:
    reader = VENUES[name]()
    return lambda data: reader.read(Message(NOW_US, "https://x/api/depth?symbol=X", data, 1))


def _accept() -> Decode:
    """Every input is signed by a key that is trusted, or nothing behind the signature would be reached."""
    keys, policy = signing.keys(), AcceptancePolicy("oms", "prod", ("risk/prod",))

    def decode(data: bytes) -> object:
        kind = STATE if b'"targets"' in data else COMMAND
        value, headers = signing.record(data, payload_type=kind)
        return policy.accept(value, headers, keys, signing.NOW_US)

    return decode


def _flat(data: bytes) -> object:
    return unpack_numbers("demo/01", zlib.crc32(data).to_bytes(4, "big") + data)


def _snapshot(data: bytes) -> object:
    return unpack("demo/1", pack("demo/1", {})[:4] + zlib.crc32(data).to_bytes(4, "big") + data)


def _toml(read: Callable[[dict[str, Any]], object]) -> Decode:
    def decode(data: bytes) -> object:
        try:
            table = tomllib.loads(data.decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError):
            return None  # the files' readers say so with the file's name
        return read(table)

    return decode
