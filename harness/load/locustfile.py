"""A scenario under `locust -f` alone: Locust's web page, headless, or master and workers.

No ledger and no faults here: this is for looking at a site. `pollstorm run` accounts for votes.
The master deals out one shard to each worker that is there when the load starts, with a common
start on the wall clock, because workers may be on other machines.
"""

import logging
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, Final

import gevent
import msgspec
from locust import events
from locust.env import Environment
from locust.rpc.protocol import Message
from locust.runners import MasterRunner, WorkerRunner

from harness.errors import Exit, PlanError
from harness.load.arrivals import NS_PER_S, schedule, users_needed
from harness.load.connections import Connections
from harness.load.request import Requests, Target
from harness.load.voter import Turnout, Voter
from harness.plan import Plan, read_plan

SHARD: Final = "pollstorm-shard"
LEAD_S: Final = 1.0  # thousands of users are spawned in less, and a message has long arrived


def scenario(toml: Path) -> type[Voter]:
    """The user class that plays the plan in that file; put it into a locustfile's namespace."""
    plan = read_plan(toml)
    users = users_needed(schedule(plan, 1, 1), plan.voters)
    name = "".join(word.capitalize() for word in plan.scenario.split("-"))
    voter: type[Voter] = type(name, (Voter,), {"abstract": False})
    stage = Standalone(plan, voter)

    def set_defaults(parser: ArgumentParser, **_: Any) -> None:
        parser.set_defaults(num_users=users, spawn_rate=users)

    events.init_command_line_parser.add_listener(set_defaults)
    events.init.add_listener(stage.on_init)
    events.test_start.add_listener(stage.on_test_start)
    events.test_stopping.add_listener(stage.on_test_stopping)
    events.test_stop.add_listener(stage.on_test_stop)
    return voter


class Deal(msgspec.Struct, frozen=True, kw_only=True):
    """What the master tells a worker."""

    generator: int
    generators: int
    host: str
    start_unix_s: float


class Standalone:
    """One locustfile's scenario in one Locust process, through any number of starts and stops."""

    def __init__(self, plan: Plan, voter: type[Voter]) -> None:
        self._plan = plan
        self._voter = voter
        self._ending: gevent.Greenlet | None = None

    def on_init(self, environment: Environment, **_: Any) -> None:
        """Refuse a bad target at once where it was given on the command line."""
        if isinstance(environment.runner, WorkerRunner):
            environment.runner.register_message(SHARD, self._on_shard)
        elif environment.host:
            try:
                Target.from_url(environment.host).require_allowed()
            except PlanError as error:
                print(f"pollstorm: {error}", file=sys.stderr)
                sys.exit(Exit.USAGE)

    def on_test_start(self, environment: Environment, **_: Any) -> None:
        """Deal out the load."""
        if isinstance(environment.runner, WorkerRunner):
            return  # its shard came by message
        try:
            self._deal(environment)
            lasts_s = LEAD_S + self._plan.duration_s + self._plan.voters.timeout_s
        except PlanError as error:
            logging.getLogger("pollstorm").error("%s", error)
            environment.process_exit_code = Exit.USAGE
            lasts_s = 0.0
        self._ending = gevent.spawn_later(lasts_s, _end, environment)

    def _deal(self, environment: Environment) -> None:
        """The load to each worker, or all of it to the users of this process."""
        if not environment.host:
            raise PlanError("no host; give one, for example --host http://127.0.0.1:8000")
        Target.from_url(environment.host).require_allowed()
        common: dict[str, Any] = {"host": environment.host, "start_unix_s": time.time() + LEAD_S}
        runner = environment.runner
        if not isinstance(runner, MasterRunner):
            self._begin(Deal(generator=1, generators=1, **common))
            return
        workers = sorted(worker.id for worker in runner.clients.ready)
        for number, worker in enumerate(workers, start=1):
            deal = Deal(generator=number, generators=len(workers), **common)
            runner.send_message(SHARD, msgspec.to_builtins(deal), worker)

    def on_test_stopping(self, **_: Any) -> None:
        """Somebody was quicker than the end of the load, or it has come: send no more."""
        if self._ending and self._ending is not gevent.getcurrent():
            self._ending.kill(block=False)
        if self._voter.turnout:
            self._voter.turnout.stop()

    def on_test_stop(self, **_: Any) -> None:
        """All users have gone."""
        if self._voter.turnout:
            self._voter.turnout.connections.close()
            self._voter.turnout = None

    def _on_shard(self, msg: Message, **_: Any) -> None:
        self._begin(msgspec.convert(msg.data, Deal))

    def _begin(self, deal: Deal) -> None:
        plan, target = self._plan, Target.from_url(deal.host)
        turnout = Turnout(
            schedule(plan, deal.generator, deal.generators),
            Requests(target, plan.poll.poll(), plan.voters, deal.generators),
            Connections(target),
            None,
            plan.voters,
        )
        turnout.start(time.monotonic_ns() + int((deal.start_unix_s - time.time()) * NS_PER_S))
        self._voter.turnout = turnout


def _end(environment: Environment) -> None:
    """The load is over: the page stays for the next one, a headless Locust ends."""
    assert environment.runner
    if environment.web_ui:
        environment.runner.stop()
    else:
        environment.runner.quit()
