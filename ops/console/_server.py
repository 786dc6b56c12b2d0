"""``seawall console``: serve the console on this host, or with TLS to others."""

import secrets
import signal
import ssl
import sys
from pathlib import Path
from typing import NamedTuple

from seawall.ops.console._access import Access, is_loopback, read_token
from seawall.ops.console._view import View
from seawall.schemas.configuration import Configuration
from seawall.schemas.errors import UsageError


class Terms(NamedTuple):
    """Address to listen on, and how people prove that they may look."""

    listen: str
    token_file: Path | None
    certificate: Path | None
    key: Path | None
    client_ca: Path | None
    name: str


def serve(configuration: Configuration, terms: Terms) -> None:
    """Serve until stopped.

    Raises
    ------
    UsageError
        The terms would show the book to strangers, or the extra is not installed.
    """
    try:
        import uvicorn  # noqa: PLC0415 - extra console

        from seawall.ops.console._app import make_app  # noqa: PLC0415 - extra console
    except ImportError as error:
        raise UsageError("the console needs: pip install 'bytewax-seawall[console]'") from error

    host, port = _address(terms)
    scheme, _, rest = configuration.bus.partition(":")
    if scheme == "sqlite" and not (configuration.directory / rest).exists():
        raise UsageError(f"{configuration.directory / rest} does not exist; run it first: seawall run CONFIG.toml")
    token = _token(terms)
    hosts = [host, terms.name] if terms.name else [host, "localhost"] if is_loopback(host) else [host]
    view = View(configuration)
    secure = terms.certificate is not None
    app = make_app(configuration, view, Access(token), hosts, secure)
    config = uvicorn.Config(
        app,
        host,
        port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
        ssl_certfile=terms.certificate,
        ssl_keyfile=terms.key,
        ssl_ca_certs=None if terms.client_ca is None else str(terms.client_ca),
        ssl_cert_reqs=ssl.CERT_NONE if terms.client_ca is None else ssl.CERT_REQUIRED,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"certificate, key or client CA cannot be used: {error}; give PEM files") from None
    fragment = f"#{token}" if token is not None and terms.token_file is None else ""
    print(f"http{'s' if secure else ''}://{terms.name or host}:{port}/login{fragment}", file=sys.stderr)
    view.start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # the server raises again what it was stopped by
    try:
        uvicorn.Server(config).run()
    finally:
        view.end()


def _address(terms: Terms) -> tuple[str, int]:
    host, _, port = terms.listen.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise UsageError(f"--listen {terms.listen}: write HOST:PORT, such as 127.0.0.1:8321")
    if bool(terms.certificate) != bool(terms.key) or (terms.client_ca and not terms.certificate):
        raise UsageError("--certificate and --key belong together, and --client-ca needs both")
    if not is_loopback(host):
        if terms.certificate is None:
            raise UsageError(f"--listen {terms.listen} is open to others: give --certificate and --key")
        if terms.token_file is None and terms.client_ca is None:
            raise UsageError(f"--listen {terms.listen} is open to others: give --token-file or --client-ca")
    return host, int(port)


def _token(terms: Terms) -> str | None:
    """Return the token; a new one where neither a file nor an authority says who may look."""
    if terms.token_file is not None:
        return read_token(terms.token_file)
    return None if terms.client_ca is not None else secrets.token_urlsafe(24)
