"""Access to the console: the token, or a certificate that the authority of mutual TLS vouches for.

A browser gives the token once and is given a session of its own by a cookie that scripts cannot read and other sites
cannot send. Without a token file one is made for this start and printed on the terminal, as for a notebook. Away from
this host nothing is served without TLS.
"""

import hmac
import ipaddress
import secrets
import stat
import time
from collections import OrderedDict
from pathlib import Path

from seawall.schemas.errors import UsageError

TOKEN_MIN = 20
SESSIONS_MAX = 1000
SESSION_S = 12 * 3600
COOKIE = "seawall_session"


class Access:
    """Checks tokens and keeps sessions; ``token`` None: everyone who reaches it was vouched for by TLS."""

    def __init__(self, token: str | None) -> None:
        self._token = token
        self._sessions: OrderedDict[str, float] = OrderedDict()

    def is_token(self, text: str) -> bool:
        """Tell whether a text is the token, in a time that says nothing of it."""
        return self._token is not None and hmac.compare_digest(text.encode(), self._token.encode())

    def begin(self) -> str:
        """Return a new session's id; the oldest ends where there are too many."""
        session = secrets.token_urlsafe(32)
        self._sessions[session] = time.monotonic() + SESSION_S
        if len(self._sessions) > SESSIONS_MAX:
            self._sessions.popitem(last=False)
        return session

    def allows(self, session: str, authorization: str) -> bool:
        """Tell whether a request may be answered, by its cookie or its ``Authorization: Bearer TOKEN``."""
        if self._token is None:
            return True
        kind, _, text = authorization.partition(" ")
        if kind.lower() == "bearer" and self.is_token(text.strip()):
            return True
        return self._sessions.get(session, 0.0) > time.monotonic()


def read_token(path: Path) -> str:
    """Return the token of a file that nobody else may read.

    Raises
    ------
    UsageError
        There is no such file, others may read it, or the token is too short to be none of many.
    """
    try:
        mode, token = path.stat().st_mode, path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the token file {path} cannot be read: {error}") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(f"others may read the token file {path}; chmod 600 {path}")
    if len(token) < TOKEN_MIN:
        raise UsageError(f"the token in {path} has fewer than {TOKEN_MIN} characters; make one: openssl rand -hex 32")
    return token


def is_loopback(host: str) -> bool:
    """Tell whether an address is of this host only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
