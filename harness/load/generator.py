"""One generator process: `python -m harness.load.generator SHARD.json` plays one shard.

It says when its users stand ready, waits for the common start, and ends when every arrival has
been answered, when the plan's limits are over, or on SIGTERM and SIGINT. The ledger is readable
whatever ends it.
"""

import gc
import logging
import resource
import signal
import sys
import time
from pathlib import Path
from statistics import fmean
from typing import Final

import gevent
from gevent.monkey import get_original
from locust.env import Environment
from locust.event import EventHook

from harness.errors import Interrupted, PollstormError, RecordingError, ServiceError
from harness.history.ledger import Ledger
from harness.load.arrivals import NS_PER_S, full_speed, schedule, users_needed
from harness.load.conduct import conducts
from harness.load.connections import Connections
from harness.load.request import ForeignRequests, Requests, Target, VoidRequests
from harness.load.shard import CANNOT_RECORD, POLL_S, GeneratorReport, Shard
from harness.load.voter import Turnout, Voter

SAMPLE_S: Final = 0.02  # of the in-flight gauge: a thousand samples in a load of 20 s
FILES_BESIDES_CONNECTIONS: Final = 64
# Enough to keep one core busy at full speed; more only queue up behind each other.
FULL_SPEED_USERS: Final = 32
# More than one process can send in a second, so that the time ends a measurement of the ceiling.
FULL_SPEED_PER_S: Final = 200_000


sleep = get_original("time", "sleep")  # of threads; Locust has made the usual one greenlets'


class LoadVoter(Voter):
    """The voter of generator processes."""


class Gauge:
    """Samples the number of requests in flight from the load's start to its planned end.

    In a thread of its own, because the event loop is no neutral place to look from: it wakes just
    when arrivals are due, and a sample taken there finds them all under way.
    """

    def __init__(self, turnout: Turnout, lasts_s: float) -> None:
        self._turnout = turnout
        self._until_ns = turnout.start_ns + int(lasts_s * NS_PER_S)
        self._samples: list[int] = []
        self.is_stopped = False

    def run(self) -> None:
        sleep(max(0.0, (self._turnout.start_ns - time.monotonic_ns()) / NS_PER_S))
        while time.monotonic_ns() < self._until_ns and not self.is_stopped:
            self._samples.append(self._turnout.in_flight)
            sleep(SAMPLE_S)

    @property
    def mean(self) -> float | None:
        return fmean(self._samples) if self._samples else None


class Pulse:
    """Beats in the event loop, and knows the longest that the loop was busy or off the CPU."""

    def __init__(self) -> None:
        self.longest_block_ns = 0

    def run(self) -> None:
        while True:  # until its greenlet is killed at the end of the load
            due_ns = time.monotonic_ns() + int(SAMPLE_S * NS_PER_S)
            gevent.sleep(SAMPLE_S)
            self.longest_block_ns = max(self.longest_block_ns, time.monotonic_ns() - due_ns)


class Generator:
    """One shard and the users that play it."""

    def __init__(self, shard: Shard) -> None:
        plan = shard.plan
        target = Target(shard.host, shard.port)
        target.require_allowed()
        at_full_speed = shard.void_for_s > 0
        if at_full_speed:
            planned, users = full_speed(int(FULL_SPEED_PER_S * shard.void_for_s)), FULL_SPEED_USERS
        else:
            planned = schedule(plan, shard.generator, shard.generators)
            users = users_needed(planned, plan.voters)
        self._shard = shard
        self._planned = planned
        self._users_wanted = users
        self._users = min(users, _most_connections())
        self._lasts_s = shard.void_for_s or plan.duration_s
        self._patience_s = 0.0 if at_full_speed else plan.voters.timeout_s + plan.limits.grace_s
        self._turnout = Turnout(
            planned,
            _requests(shard, target),
            Connections(target),
            Ledger(Path(shard.ledger_folder), shard.generator),
            plan.voters,
            () if at_full_speed else conducts(plan.faults),
        )
        environment = Environment(user_classes=[LoadVoter])
        self._runner = environment.create_local_runner()
        # Locust's statistics, a tenth of a vote's cost, would be shown to nobody here.
        environment.events.request = EventHook()

    def play(self) -> GeneratorReport:
        """Play the shard to its end. Raises PollstormError."""
        turnout = LoadVoter.turnout = self._turnout
        for number in (signal.SIGTERM, signal.SIGINT):
            gevent.signal_handler(number, turnout.stop)
        try:
            self._runner.start(self._users, spawn_rate=self._users)
            assert self._runner.spawning_greenlet
            self._runner.spawning_greenlet.join()
            gc.collect()
            gc.freeze()  # thousands of waiting greenlets are no garbage, nor need it be checked
            turnout.start(self._await_start())
            return self._report()
        finally:
            self._runner.quit()
            turnout.connections.close()

    def _await_start(self) -> int:
        """Say that the users stand ready; the common start, in ns of CLOCK_MONOTONIC."""
        Path(self._shard.ready_file).touch()
        start_file = Path(self._shard.start_file)
        # As long again as the fleet may take until all of its generators are ready.
        until_s = time.monotonic() + 2 * self._shard.plan.limits.start_s
        while time.monotonic() < until_s:
            if self._turnout.over.wait(POLL_S):
                raise Interrupted("stopped before the load began")
            if start_file.exists():
                return int(start_file.read_text())
        raise ServiceError(f"no start of the load was given in {start_file}")

    def _report(self) -> GeneratorReport:
        """Wait for the end, and what there is to say then. Raises RecordingError."""
        turnout = self._turnout
        gauge, pulse = Gauge(turnout, self._lasts_s), Pulse()
        sampling = gevent.get_hub().threadpool.spawn(gauge.run)
        beating = gevent.spawn(pulse.run)
        cpu_s = time.process_time()
        until_ns = turnout.start_ns + int((self._lasts_s + self._patience_s) * NS_PER_S)
        turnout.over.wait((until_ns - time.monotonic_ns()) / NS_PER_S)
        elapsed_s = (time.monotonic_ns() - turnout.start_ns) / NS_PER_S
        cpu_s = time.process_time() - cpu_s
        answered = turnout.ended
        turnout.stop()
        beating.kill()
        gauge.is_stopped = turnout.unanswered > 0
        sampling.get()  # it ends with the planned duration
        if turnout.failure:
            raise turnout.failure
        return GeneratorReport(
            generator=self._shard.generator,
            planned=self._planned.votes,
            sent=turnout.sent,
            attempts=turnout.attempts,
            answered=answered,
            in_flight=gauge.mean,
            elapsed_s=elapsed_s,
            cpu_s=cpu_s,
            longest_block_ms=pulse.longest_block_ns / 1e6,
            unanswered=turnout.unanswered,
            users=self._users,
            met=dict(turnout.met),
            users_wanted=self._users_wanted,
        )


def _requests(shard: Shard, target: Target) -> Requests:
    """What is sent: to our site, to somebody else's, or to one that does nothing."""
    plan = shard.plan
    common = (target, plan.poll.poll(), plan.voters, shard.generators)
    if shard.void_for_s > 0:
        return VoidRequests(*common)
    return ForeignRequests(*common, plan.target) if plan.target.url else Requests(*common)


def _most_connections() -> int:
    """How many this process may have open, once its limit is raised as far as it goes."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most - FILES_BESIDES_CONNECTIONS


def main(arguments: list[str]) -> int:
    logging.getLogger("locust").setLevel(logging.ERROR)  # its hints are for people at a terminal
    try:
        shard = Shard.read(Path(arguments[0]))
        Generator(shard).play().write(Path(shard.report_file))
    except PollstormError as error:
        print(f"generator: {error}", file=sys.stderr)
        return CANNOT_RECORD if isinstance(error, RecordingError) else error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
