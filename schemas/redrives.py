"""Records of the topic ``redrive``: rejected records on their way in again (architecture.md, "Failure").

Who sends one says why; the original bytes travel along, and what replaces them where they were corrected. Slices name
each one that was taken, with its hash, so a redrive is evidence like any input.
"""

import base64

import msgspec

from seawall.schemas.errors import Reason, Rejected

REDRIVE = "redrive"
"""The topic; it has one partition."""


class Redrive(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A rejected record that is to be taken again.

    Attributes
    ----------
    reject
        ``PARTITION/OFFSET`` of the record on ``rejects``.
    source
        The file or topic it first came from: its mapping counts; empty where it is an input record already.
    reason
        Why it was rejected.
    by, why, at_us
        Who sent it, what was fixed, and when by their clock.
    original, original_base64
        Its bytes; the second where they are not UTF-8.
    replacement
        What stands in for them: an input record, in the form of its source.
    """

    reject: str
    source: str = ""
    reason: str
    by: str
    why: str
    at_us: int
    original: str = ""
    original_base64: str = ""
    replacement: str = ""

    def content(self) -> bytes:
        """Return the bytes that are to be taken."""
        if self.replacement:
            return self.replacement.encode()
        return base64.b64decode(self.original_base64) if self.original_base64 else self.original.encode()


_decoder = msgspec.json.Decoder(Redrive)


def decode_redrive(value: bytes) -> Redrive:
    """Decode a record of the topic.

    Raises
    ------
    Rejected
        It is none.
    """
    try:
        found = _decoder.decode(value)
        found.content()
    except (msgspec.MsgspecError, UnicodeError, ValueError) as error:
        raise Rejected(Reason.REDRIVE_MUST_BE_WELL_FORMED, str(error)[:200]) from None
    return found
