"""Signed documents read strictly: what two parsers could understand differently is refused.

Decides what a signed JSON document and the ``dsse`` header beside it say. Rules: UTF-8 without byte order mark, one
object, no name twice in any object, integers below 2^53 in magnitude and no other numbers (decimals are strings), no
lone surrogates, bounded depth; base64 canonical; at most 16 signatures.

References
----------
RFC 8259 §4 and §6 on names and numbers; DSSE v1.0.2 envelope; Bishop Fox's survey of 49 JSON parsers that differ.
"""

import base64
import binascii
import json
from typing import Any, NamedTuple, NoReturn

import msgspec

INTEGER_MAX = (1 << 53) - 1
DEPTH_MAX = 32
SIGNATURES_MAX = 16


class Malformed(ValueError):
    """The bytes are not a document of this kind; the message says what is wrong."""


class DuplicateName(Malformed):
    """An object has one name twice, and parsers disagree on which one counts."""


class Signature(NamedTuple):
    """One signature of an envelope. ``keyid`` is a hint for looking the key up and decides nothing."""

    keyid: str
    sig: bytes


class Header(NamedTuple):
    """The detached envelope: everything of DSSE but the payload."""

    payload_type: str
    signatures: tuple[Signature, ...]


def parse_strict(value: bytes) -> dict[str, Any]:
    """Return the object in ``value``; raise `Malformed` or `DuplicateName`.

    Examples
    --------
    >>> parse_strict(b'{"a": 1}')
    {'a': 1}
    """
    try:
        text = value.decode("utf-8")
        # msgspec is the stricter grammar (no NaN, no bare control characters); json tells names apart and keeps order.
        msgspec.json.decode(value)
        document = json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_no_number, parse_constant=_no_number
        )
        text.encode("utf-8")
    except Malformed:
        raise
    except (ValueError, RecursionError, msgspec.DecodeError) as error:
        raise Malformed(f"not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise Malformed("not a JSON object")
    _check_tree(document, DEPTH_MAX)
    return document


def parse_header(text: bytes) -> Header:
    """Return the header's parts; unknown fields are ignored, as DSSE asks; an unset keyid is an empty one."""
    document = parse_strict(text)
    payload_type, listed = document.get("payloadType"), document.get("signatures")
    if not isinstance(payload_type, str) or not isinstance(listed, list):
        raise Malformed("the envelope has no payloadType or no signatures")
    if not 1 <= len(listed) <= SIGNATURES_MAX:
        raise Malformed(f"the envelope has {len(listed)} signatures, of 1 to {SIGNATURES_MAX}")
    return Header(payload_type, tuple(_signature(item) for item in listed))


def parse_envelope(text: bytes) -> tuple[Header, bytes]:
    """Return header and payload of a whole DSSE envelope, the form in files and archives."""
    payload = parse_strict(text).get("payload")
    if not isinstance(payload, str):
        raise Malformed("the envelope has no payload")
    return parse_header(text), decode_base64(payload)


def decode_base64(text: str) -> bytes:
    """Return the bytes of canonical base64, standard or URL-safe (DSSE takes both), always padded."""
    standard = text.replace("-", "+").replace("_", "/")
    try:
        data = base64.b64decode(standard.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise Malformed(f"not base64: {text[:60]!r}") from error
    if base64.b64encode(data).decode() != standard:
        raise Malformed(f"base64 is not canonical: {text[:60]!r}")
    return data


def _signature(item: Any) -> Signature:
    if not isinstance(item, dict):
        raise Malformed("a signature is not an object")
    keyid, sig = item.get("keyid") or "", item.get("sig")
    if not isinstance(keyid, str) or not isinstance(sig, str):
        raise Malformed("a signature has no sig, or a keyid that is not text")
    return Signature(keyid, decode_base64(sig))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise DuplicateName("an object has one name twice")
    return document


def _integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > INTEGER_MAX:
        raise Malformed(f"the integer {text[:40]} is beyond 2^53")
    return int(text)


def _no_number(text: str) -> NoReturn:
    raise Malformed(f"the number {text[:40]} is not an integer; decimals are strings")


def _check_tree(item: Any, depth: int) -> None:
    if depth < 0:
        raise Malformed(f"nested deeper than {DEPTH_MAX}")
    if isinstance(item, dict):
        for name, child in item.items():
            _check_tree(name, depth)
            _check_tree(child, depth - 1)
    elif isinstance(item, list):
        for child in item:
            _check_tree(child, depth - 1)
    elif isinstance(item, str) and not item.isascii():
        try:
            item.encode("utf-8")
        except UnicodeEncodeError as error:
            raise Malformed("a string has a lone surrogate") from error
