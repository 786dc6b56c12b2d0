"""Whether a topic is still the one that was read: of one that was deleted and made anew, offsets name other records.

A cluster gives every topic an id. It is kept beside the run, a file for each topic, so that a run that begins again
notices too. Who lost these files is not warned, and goes on at the offsets of before.
"""

import contextlib
from pathlib import Path

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from seawall.connectors.kafka.clients import Clients
from seawall.connectors.whole_files import write_whole
from seawall.schemas.errors import BusError

CALL_S = 10.0
UNTOLD = "AAAAAAAAAAAAAAAAAAAAAA"  # what a cluster says that has no ids


class TopicIds:
    """The ids of topics that are followed.

    Parameters
    ----------
    clients
        Of the cluster.
    folder
        Where ids are kept, of this cluster alone.
    """

    def __init__(self, clients: Clients, folder: Path) -> None:
        self._clients, self._folder = clients, folder
        self._admin: AdminClient | None = None

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
        found = self._ask(name)
        if not found:
            return
        path = self._folder / name
        try:
            noted = path.read_text() if path.exists() else ""
            if noted != found and not (noted and begun):
                write_whole([(path, found.encode())])
                return
        except OSError as error:
            raise BusError(f"{path} cannot be kept ({error.strerror}); make its folder writable") from error
        if noted != found:
            text = f"the topic {name} was deleted and made anew since it was read (id {noted} then, {found} now)"
            text = f"{text}, so its first records would be passed over; send them to a topic of another name"
            raise BusError(f"{text}, or remove {path} to go on at the offsets reached")

    def _ask(self, name: str) -> str:
        """Return the id that the cluster has for a topic now, empty where it does not tell."""
        if self._admin is None:
            self._admin = self._clients.admin()
        with contextlib.suppress(KafkaException, TimeoutError):
            asked = self._admin.describe_topics(TopicCollection([name]), request_timeout=CALL_S)[name]
            found = str(asked.result(2 * CALL_S).topic_id)
            return "" if found == UNTOLD else found
        return ""
