"""The planned troubles in virtual time: what `harness.faults` does to real processes.

Each kind is one function below, entered in `START`. It does its harm and says, by `lasts`, what
ends it; a fault that is armed at a step does so when somebody comes there. All that lasts is ended
when its time is over, or with the load.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from harness.armed import step
from harness.fault import Fault, target_of
from harness.faults import network, slow_commit
from harness.faults.aim import HOLDER, READ, RESET, TICKET_HOLDER
from harness.history.journal import Role
from harness.load.arrivals import NS_PER_S
from harness.load.conduct import GIVE_UP, REVOTE
from harness.protocol.commands import COMMAND_CODES, Delete, InsertBallots, Key, KeyKind, Set
from harness.result import FaultRecord
from harness.simulation.daemons import Database, DatabaseThread
from harness.simulation.lines import Server
from harness.simulation.process import Process

if TYPE_CHECKING:
    from harness.simulation.world import World

HASTY: Final = (GIVE_UP, REVOTE)
"""What voters do in virtual time too: see `voters`. Slow readers cost the site nothing here."""
NOT_SIMULATED: Final = "is not simulated"
WORKER_RESTART_NS: Final = NS_PER_S  # what a site's master takes to have another process ready
BALLAST: Final = b"-" * 60  # with its key as large as a vote, so that it takes a vote's room
BALLAST_ITEMS: Final = 7_500  # more than there are such chunks in a page
BALLAST_EVERY_NS: Final = 250_000_000

INSERT: Final = step(Role.FLUSHER, COMMAND_CODES[InsertBallots], KeyKind.NONE)
FLUSHER_STEPS: Final = {
    "before-read": (READ,),
    "between-read-and-reset": (RESET, INSERT),  # where nothing is reset, the second is met
    "between-reset-and-insert": (INSERT,),
}
"""The commands before which a flusher stands there; the first one met counts."""
BEFORE_COMMIT: Final = "between-insert-and-commit"
AFTER_COMMIT: Final = "between-commit-and-delete"


def _never(_thread: DatabaseThread) -> bool:
    return False


class Trouble:
    """One planned fault as it happens."""

    def __init__(self, world: "World", fault: Fault, record: Callable[[FaultRecord], None]) -> None:
        self.world = world
        self.fault = fault
        self.hindrance: Callable[[DatabaseThread], bool] = _never
        """What waits for a flusher's transaction."""
        self._record = record
        self._began_ns = 0
        self._heal: Callable[[], None] | None = None
        self._detail = self._target = ""
        due_ns = world.start_ns + round(fault.at_s * NS_PER_S)
        self._note(due_ns, world.end_ns, "did not meet its target", target_of(fault), hit=False)

    def start(self) -> None:
        """Its time has come."""
        START[self.fault.kind](self)

    def met(self, detail: str, target: str = "") -> None:
        """It is over at once."""
        now_ns = self.world.events.now_ns
        self._note(now_ns, now_ns, detail, target or target_of(self.fault), hit=True)

    def lasts(
        self, heal: Callable[[], None], detail: str, target: str = "", least_ns: int = 0
    ) -> None:
        """It has hit, and lasts until its time is over, but so long at least, or the load is."""
        events = self.world.events
        self._began_ns = events.now_ns
        self._heal, self._detail = heal, detail
        self._target = target or target_of(self.fault)
        if self.world.healed:
            self.end()  # it was met too late: by somebody who was on his way when the load ended
        else:
            for_ns = max(least_ns, round(self.fault.for_s * NS_PER_S))
            events.at(events.now_ns + for_ns, self.end)

    def end(self) -> None:
        """Heal what it does, if it does something."""
        heal, self._heal = self._heal, None
        if heal is not None:
            heal()
            self._note(
                self._began_ns, self.world.events.now_ns, self._detail, self._target, hit=True
            )

    def _note(self, start_ns: int, end_ns: int, detail: str, target: str, *, hit: bool) -> None:
        seconds = self.world.seconds
        self._record(
            FaultRecord(
                kind=self.fault.kind,
                target=target,
                start_s=seconds(start_ns),
                end_s=seconds(end_ns),
                hit=hit,
                detail=detail,
            )
        )


# Processes.


def _pause(trouble: Trouble) -> None:
    _strike(trouble, partial(_stop, trouble))


def _kill(trouble: Trouble) -> None:
    _strike(trouble, partial(_end, trouble))


def _strike(trouble: Trouble, harm: Callable[[Process, str, str], None]) -> None:
    """Find the process that is aimed at, now or when it comes to a step."""
    world, fault = trouble.world, trouble.fault
    target = target_of(fault)
    if target == "lock-holder":
        _arm(world, HOLDER.steps, lambda number, process: harm(process, *_holder(number)))
    elif target == "flusher" and fault.step in FLUSHER_STEPS:
        steps = FLUSHER_STEPS[fault.step]
        _arm(world, steps, lambda _, process: harm(process, target, fault.step))
    elif target == "flusher" and fault.step:
        trouble.hindrance = partial(_at_commit, trouble, harm)
        world.database.hindrances.append(trouble.hindrance)
    elif target == "flusher":
        harm(world.random.choice(world.flushers).process, target, "")
    elif target == "site":
        alive = [worker.process for worker in world.workers if not worker.process.dead]
        if alive:
            harm(world.random.choice(alive), target, "")
    elif target in world.servers and world.servers[target].is_up:
        harm(world.servers[target].daemon.process, target, "")


def _holder(number: int) -> tuple[str, str]:
    """Who comes to such a step, and how it stands there."""
    if number == TICKET_HOLDER:
        return "ticket-holder", "before its slot was filled; no lock is held there"
    return "lock-holder", "with the lock held"


def _arm(world: "World", steps: Sequence[int], harm: Callable[[int, Process], None]) -> None:
    """The first process to come to one of the steps meets it, and no other."""

    def met(number: int, process: Process) -> None:
        for each in steps:
            world.armed.steps.pop(each, None)
        harm(number, process)

    for number in steps:
        world.armed.steps[number] = partial(met, number)


def _at_commit(
    trouble: Trouble, harm: Callable[[Process, str, str], None], thread: DatabaseThread
) -> bool:
    """A batch is inserted, and its flusher would send the commit now."""
    world, where = trouble.world, trouble.fault.step
    flusher = next((each for each in world.flushers if each.has_sent(thread.command)), None)
    if flusher is None:
        return False
    process = flusher.process
    world.database.hindrances.remove(trouble.hindrance)
    if where == AFTER_COMMIT:
        thread.committed = partial(harm, process, "flusher", where)
        return False
    harm(process, "flusher", where)
    if process.stopped:
        process.hold(thread.commit)
    return True


def _stop(trouble: Trouble, process: Process, target: str, where: str) -> None:
    process.stop()
    trouble.lasts(process.go_on, _told(target, process, "stopped", where), target)


def _end(trouble: Trouble, process: Process, target: str, where: str) -> None:
    world = trouble.world
    if target in world.servers:
        server = world.servers[target]
        server.kill()
        world.forgotten(target)
        trouble.lasts(server.daemon.restart, f"{target} killed")
    elif any(process is flusher.process for flusher in world.flushers):
        world.kill(process)
        again = partial(world.restart_flusher, process)
        trouble.lasts(again, _told(target, process, "killed", where), target)
    else:
        world.kill(process)
        worker = next(each for each in world.workers if each.process is process)
        worker.die()
        told = _told(target, process, "killed", where)
        trouble.lasts(worker.restart, told, target, least_ns=WORKER_RESTART_NS)


def _told(target: str, process: Process, what: str, where: str) -> str:
    if process.number == 0:
        return f"{target} {what}"
    role = "flusher" if target == "flusher" else "site"
    return f"{role} process {process.number} {what}" + (f" {where}" if where else "")


# memcached.


def _wipe(trouble: Trouble) -> None:
    world = trouble.world
    target = target_of(trouble.fault)
    if target in world.servers and world.servers[target].is_up:
        world.stores[target].wipe()
        world.forgotten(target)
        trouble.met("memcached emptied")


def _squeeze(trouble: Trouble) -> None:
    """No more pages, and ballast that takes the votes' room as often as they take it back."""
    world = trouble.world
    store = world.stores.get(target_of(trouble.fault))
    if store is None:
        return
    events = world.events
    before = store.evictions
    release = store.squeeze()
    under_way = [True]

    def load() -> None:
        if under_way:
            for number in range(BALLAST_ITEMS):
                key = Key(f"ballast-{number:05}", KeyKind.NONE)
                store.execute(Set(key, BALLAST), events.now_ns)
            events.at(events.now_ns + BALLAST_EVERY_NS, load)

    def heal() -> None:
        under_way.clear()
        release()
        for number in range(BALLAST_ITEMS):
            store.execute(Delete(Key(f"ballast-{number:05}", KeyKind.NONE)), events.now_ns)

    load()
    trouble.lasts(heal, f"no memory to spare; {store.evictions - before} items evicted at once")


# The network.


def _server(trouble: Trouble) -> Server | None:
    return trouble.world.servers.get(target_of(trouble.fault))


def _weather(trouble: Trouble, detail: str, **changes: Any) -> None:
    server = _server(trouble)
    if server:
        for name, value in changes.items():
            setattr(server.weather, name, value)
        trouble.lasts(server.weather.clear, detail)


def _latency(trouble: Trouble) -> None:
    delay_s, jitter_s = trouble.fault.delay_s or network.DELAY_S, trouble.fault.jitter_s
    random = trouble.world.random

    def delay_ns() -> int:
        return max(0, round((delay_s + random.uniform(-jitter_s, jitter_s)) * NS_PER_S))

    _weather(trouble, f"{delay_s:g} s more for each request", delay_ns=delay_ns)


def _stall(trouble: Trouble) -> None:
    _weather(trouble, "nothing got through", stalled=True)


def _drop_request(trouble: Trouble) -> None:
    share = trouble.fault.share or 1.0
    _weather(trouble, f"{share:.0%} of requests dropped", drop_request=share)


def _drop_reply(trouble: Trouble) -> None:
    share = trouble.fault.share or 1.0
    _weather(trouble, f"{share:.0%} of replies dropped", drop_reply=share)


def _cut(trouble: Trouble) -> None:
    replies = trouble.fault.direction == "from"
    changes = {"cut_replies" if replies else "cut_requests": True}
    _weather(trouble, f"{'replies' if replies else 'requests'} vanished", **changes)


def _reset(trouble: Trouble) -> None:
    server = _server(trouble)
    if server is not None:
        server.break_connections()
        _full(trouble, server, "every connection reset")


# The database.


def _connections(trouble: Trouble) -> None:
    _full(trouble, trouble.world.servers["mariadb"], "no connection to be had")


def _full(trouble: Trouble, server: Server, detail: str) -> None:
    server.full = True

    def heal() -> None:
        server.full = False

    trouble.lasts(heal, detail)


def _hinder(trouble: Trouble, hindrance: Callable[[DatabaseThread], bool], detail: str) -> None:
    database = trouble.world.database
    database.hindrances.append(hindrance)
    trouble.lasts(partial(_unhinder, database, hindrance), detail)


def _unhinder(database: Database, hindrance: Callable[[DatabaseThread], bool]) -> None:
    if hindrance in database.hindrances:
        database.hindrances.remove(hindrance)


def _lock_table(trouble: Trouble) -> None:
    database = trouble.world.database
    waiting: list[DatabaseThread] = []

    def wait(thread: DatabaseThread) -> bool:
        waiting.append(thread)
        return True

    def heal() -> None:
        _unhinder(database, wait)
        for thread in waiting:
            thread.finish()

    database.hindrances.append(wait)
    trouble.lasts(heal, "the ballots' table locked")


def _deadlock(trouble: Trouble) -> None:
    def roll_back(thread: DatabaseThread) -> bool:
        batch = isinstance(thread.command, InsertBallots)
        if batch:
            thread.refuse()
        return batch

    _hinder(trouble, roll_back, "batches rolled back")


def _full_disk(trouble: Trouble) -> None:
    def refuse(thread: DatabaseThread) -> bool:
        thread.refuse()
        return True

    _hinder(trouble, refuse, "nothing could be written")


def _slow_commit(trouble: Trouble) -> None:
    log = trouble.world.database.log
    log.delay_ns = round((trouble.fault.delay_s or slow_commit.DELAY_S) * NS_PER_S)

    def heal() -> None:
        log.delay_ns = 0

    trouble.lasts(heal, f"each commit {log.delay_ns / NS_PER_S:g} s slower")


START: Final[dict[str, Callable[[Trouble], None]]] = {
    "pause": _pause,
    "kill": _kill,
    "wipe": _wipe,
    "squeeze": _squeeze,
    "latency": _latency,
    "stall": _stall,
    "reset": _reset,
    "drop-request": _drop_request,
    "drop-reply": _drop_reply,
    "cut": _cut,
    "connections": _connections,
    "lock-table": _lock_table,
    "deadlock": _deadlock,
    "slow-commit": _slow_commit,
    "full-disk": _full_disk,
}

SIMULATED: Final = (*START, *HASTY)
