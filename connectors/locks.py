"""One writer per partition on one host: locks of the operating system, which die with their process.

A lock is a file of its own beside the bus, locked while its descriptor is open; it says which process holds it.
"""

import fcntl
import os
from pathlib import Path

from seawall.schemas.errors import BusError, PartitionLocked


def lock_partition(path: Path, topic: str, partition: int) -> int:
    """Take the lock of a partition of the bus ``path``; return the descriptor that holds it until it is closed.

    Raises
    ------
    PartitionLocked
        Another process of this host writes there.
    BusError
        Locks cannot be taken here.
    """
    bus = path.resolve()  # by whatever name it was opened
    folder = bus.with_name(bus.name + ".locks")
    try:
        folder.mkdir(exist_ok=True)
        descriptor = os.open(folder / f"{topic}-{partition}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise BusError(f"{folder} cannot hold locks ({error.strerror}); make it and its folder writable") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 32).decode(errors="replace") or "unknown"
        os.close(descriptor)
        text = f"partition {partition} of {topic} in {path.name} is being written by process {holder}"
        raise PartitionLocked(f"{text}; wait for that run to end, or stop it") from error
    except OSError as error:
        os.close(descriptor)
        raise BusError(f"{folder} cannot hold locks ({error.strerror}); put the bus on a local disk") from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor
