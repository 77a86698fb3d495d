"""Which polls there are, as one thread of the site last read it from the database."""

from time import monotonic
from typing import Final

import pymysql

from harness.database.link import Link
from harness.database.polls import find_poll
from harness.modes.mode import TotalsUnavailable
from harness.vote import Poll

# Polls hardly change, so the database is asked this rarely about a known one. A poll that is closed
# may take votes for so long in each thread, and for as long as the database does not answer.
FRESH_S: Final = 10.0
MAX_POLLS: Final = 10_000  # a site has dozens; strangers' names are never kept


class PollBook:
    """Found polls, remembered; unknown names are asked for again each time."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._known: dict[str, tuple[Poll, float]] = {}

    def find(self, name: str) -> Poll | None:
        """The poll of that name; an old answer if the database gives none just now.

        Raises TotalsUnavailable when there is no answer at all.
        """
        poll, read_at = self._known.get(name, (None, 0.0))
        if poll and monotonic() - read_at < FRESH_S:
            return poll
        try:
            found = find_poll(self._link, name)
        except pymysql.MySQLError as error:
            if poll:
                return poll
            raise TotalsUnavailable(str(error)) from error
        if found and len(self._known) < MAX_POLLS:
            self._known[name] = (found, monotonic())
        return found
