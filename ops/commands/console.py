"""``seawall console``."""

from pathlib import Path
from typing import Annotated

import typer

from seawall.ops.commands.options import Where


def console(
    where: Where,
    listen: Annotated[str, typer.Option(help="HOST:PORT; away from this host only with TLS.")] = "127.0.0.1:8321",
    token_file: Annotated[Path | None, typer.Option(help="A file, mode 0600, with the token to look with.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="PEM certificate chain for HTTPS.")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM key of the certificate.")] = None,
    client_ca: Annotated[Path | None, typer.Option(help="PEM of who vouches for those who look (mutual TLS).")] = None,
    name: Annotated[str, typer.Option(help="The name people ask it by, where that is not the host.")] = "",
) -> None:
    """Serve a read-only page of exposures, alerts, incidents, limits and audit that follows a run.

    The address is told on standard error; without --token-file or --client-ca it carries a token made for this start.

    Example: seawall console desk.toml
    """
    from seawall.ops.console.server import Terms, serve
    from seawall.schemas.configuration import where as find

    serve(find(where), Terms(listen, token_file, certificate, key, client_ca, name))
