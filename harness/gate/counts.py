"""What one vote costs, counted exactly: commands, statements and round trips have no noise.

Votes are cast one after the other, by way of taps between the site and its services, and each is
counted by itself. The median vote is the figure: what else goes on now and then, a drain or a poll
that is read again, meets a few of them and not the middle one.
"""

import http.client
import json
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Final
from urllib.parse import urlsplit

from harness.errors import ServiceError
from harness.gate.outcome import Counts, Votes
from harness.gate.sites import RunningSite, running
from harness.gate.versions import Version
from harness.gate.wire import DatabaseCommands, MemcachedCommands, Tally, Tap, tapped
from harness.modes.mode import daemons_of, find_mode
from harness.plan import DatabasePlan, MemcachedPlan, PollPlan
from harness.services.mariadb import start_mariadb
from harness.services.memcached import start_memcached
from harness.services.processes import Supervisor
from harness.services.proxies import through
from harness.vote import mint

WARM_UP: Final = 150  # votes not counted: every thread has its connections and the poll by then
COUNTED: Final = 101  # one is in the middle
ANSWER_S: Final = 10.0
GENERATOR: Final = 1


def count(version: Version, mode: str, supervisor: Supervisor, logs: Path) -> Counts:
    """The version's counts in that mode, with services of their own. Raises ServiceError."""
    needed = daemons_of(find_mode(mode), None)
    with ExitStack() as ending:
        daemons = [
            start_memcached(supervisor, MemcachedPlan(), logs / "memcached.log")
            for _ in range(needed)
        ]
        for daemon in daemons:
            ending.callback(daemon.stop)
        mariadb = start_mariadb(supervisor, DatabasePlan(), logs / "mariadb.log")
        ending.callback(mariadb.stop)
        at_memcached = [
            Tap(host, int(port), MemcachedCommands)
            for host, _, port in (daemon.address.rpartition(":") for daemon in daemons)
        ]
        url = urlsplit(mariadb.url)
        at_database = Tap(url.hostname or "", url.port or 0, DatabaseCommands)
        ending.enter_context(tapped(*at_memcached, at_database))
        services = (
            "--memcached",
            ",".join(f"127.0.0.1:{tap.port}" for tap in at_memcached),
            "--database",
            through(f"127.0.0.1:{at_database.port}", mariadb.url),
        )
        log = logs / f"counts-{mode}-{version.commit}.log"
        site = ending.enter_context(running(version, mode, supervisor, log, services=services))
        return _cast(site, at_memcached, at_database)


def _cast(site: RunningSite, at_memcached: list[Tap], at_database: Tap) -> Counts:
    connection = http.client.HTTPConnection(site.host, site.port, timeout=ANSWER_S)
    acknowledged: set[int] = set()
    to_memcached: list[Tally] = []
    to_database: list[Tally] = []
    for number in range(WARM_UP + COUNTED):
        before = _together(at_memcached), at_database.tally()
        vote = mint(GENERATOR, number)
        if _vote(connection, site, vote):
            acknowledged.add(vote)
        if number >= WARM_UP:
            to_memcached.append(_since(before[0], _together(at_memcached)))
            to_database.append(_since(before[1], at_database.tally()))
    connection.close()
    ballots = site.settled_ballots(acknowledged)
    return Counts(
        memcached_commands=median(tally.commands for tally in to_memcached),
        memcached_round_trips=median(tally.round_trips for tally in to_memcached),
        sql_statements=median(tally.commands for tally in to_database),
        sql_round_trips=median(tally.round_trips for tally in to_database),
        votes=Votes(
            sent=WARM_UP + COUNTED,
            acknowledged=len(acknowledged),
            lost=len(acknowledged - ballots.keys()),
            doubled=sum(deliveries > 1 for deliveries in ballots.values()),
        ),
    )


def _vote(connection: http.client.HTTPConnection, site: RunningSite, vote: int) -> bool:
    """Whether it was acknowledged. Raises ServiceError when the site does not answer."""
    body = json.dumps({"vote": f"{vote:016x}", "choice": 1, "voter": f"v{vote:016x}"})
    headers = {"Content-Type": "application/json"}
    try:
        connection.request("POST", f"/polls/{PollPlan().name}/votes", body, headers)
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise ServiceError(f"{site.version.name}: no answer to a vote: {error}") from error
    return answer.status in (http.HTTPStatus.CREATED, http.HTTPStatus.ACCEPTED)


def _together(taps: list[Tap]) -> Tally:
    tallies = [tap.tally() for tap in taps]
    return Tally(sum(t.commands for t in tallies), sum(t.round_trips for t in tallies))


def _since(before: Tally, now: Tally) -> Tally:
    return Tally(now.commands - before.commands, now.round_trips - before.round_trips)
