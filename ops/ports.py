"""Ports for processes that are about to listen on this machine; no engine is loaded for them."""

import random
import socket
from contextlib import suppress

HOST = "127.0.0.1"
RANGE = (15_000, 30_000)  # below those that outgoing connections are given meanwhile: Linux takes them from 32,768 on


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on now, chosen at random: several who choose at once rarely choose the same."""
    found: list[int] = []
    for port in random.sample(range(*RANGE), 1000):
        with socket.socket() as entry, suppress(OSError):
            entry.bind((HOST, port))
            found.append(port)
        if len(found) == count:
            break
    return found
