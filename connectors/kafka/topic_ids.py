"""Whether a topic is still the one that was read: of one that was deleted and made anew, offsets name other records.

A cluster gives every topic an id. It is kept beside the run, a file for each topic and reader, so that a run that
begins again notices too. Who lost these files, or brought a run to another cluster, goes on at the offsets of before;
that is logged.
"""

import contextlib
import logging
import time
from pathlib import Path

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from seawall.connectors.kafka.clients import Clients
from seawall.connectors.whole_files import write_whole
from seawall.schemas.errors import BusError

log = logging.getLogger("seawall")
CALL_S = 10.0
ASKED_MAX, ASK_AGAIN_S = 3, 1.0  # of several brokers one may have heard late of what the others know
UNTOLD = "AAAAAAAAAAAAAAAAAAAAAA"  # what a cluster says that has no ids


class TopicIds:
    """The ids of topics that one reader follows.

    Parameters
    ----------
    clients
        Of the cluster.
    folder
        Where ids are kept, of this cluster and reader alone: another one may not have begun yet.
    """

    def __init__(self, clients: Clients, folder: Path) -> None:
        self._clients, self._folder = clients, folder
        self._admin: AdminClient | None = None

    def begin(self, name: str, begun: bool) -> None:
        """Check as below, before anything is read; where records were taken and none told of which topic, say so."""
        if begun and not (self._folder / name).exists():
            text = "%s is read on at the offsets of a run of before, but nothing in %s tells which topic that run read"
            text = f"{text}: of one made anew since, or on another cluster, the first records are passed over; give"
            log.warning(f"{text} such a topic another name", name, self._folder)
        self.check(name, begun)

    def check(self, name: str, begun: bool) -> None:
        """Compare the id of a topic with the one that was noted first; where the cluster does not answer, do nothing.

        Parameters
        ----------
        name
            What it is called on the cluster.
        begun
            Whether any record of it was taken; where none was, another id is noted.

        Raises
        ------
        BusError
            It was deleted and made anew since, or its id cannot be kept.
        """
        path, found = self._folder / name, b""
        for attempt in range(ASKED_MAX):
            time.sleep(ASK_AGAIN_S if attempt else 0)
            found = self._ask(name)
            try:
                noted = path.read_bytes() if path.exists() else b""
                if found and noted != found and not (noted and begun):
                    write_whole([(path, found)])
                    return
            except OSError as error:
                raise BusError(f"{path} cannot be kept ({error.strerror}); make its folder writable") from error
            if found in (noted, b""):
                return
        then, now = noted.decode(errors="replace"), found.decode()
        text = f"the topic {name} was deleted and made anew since it was read (id {then} then, {now} now)"
        text = f"{text}, so its first records would be passed over; send them to a topic of another name, or, to go on"
        raise BusError(f"{text} at the offsets reached, remove {path}, and its like of other processes and hosts")

    def _ask(self, name: str) -> bytes:
        """Return the id that the cluster has for a topic now, empty where it does not tell."""
        if self._admin is None:
            self._admin = self._clients.admin()
        with contextlib.suppress(KafkaException, TimeoutError):
            asked = self._admin.describe_topics(TopicCollection([name]), request_timeout=CALL_S)[name]
            found = str(asked.result(2 * CALL_S).topic_id)
            return b"" if found == UNTOLD else found.encode()
        return b""
