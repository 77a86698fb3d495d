"""The histories of a trial's queues, as far as they concern the condemned votes.

Read with SQL once for all of them; then each question about one vote is a search in an array.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias, TypeVar

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.audit.certificate import Command
from harness.audit.lives import IS_MUTATION, NEVER_ENDED, any_of, lives_of_all
from harness.history.journal import Role
from harness.protocol.commands import (
    COMMAND_CODES,
    Add,
    Get,
    Incr,
    InsertBallots,
    KeyKind,
    Set,
    Status,
)
from harness.protocol.ticket import EPOCH_BITS, epoch_of

Place: TypeAlias = tuple[int, int]
Who: TypeAlias = tuple[int, int, int]
Key = TypeVar("Key")
Ints: TypeAlias = npt.NDArray[np.int64]

SLOT: Final = f"key = {int(KeyKind.SLOT)}"
POINTER: Final = f"key = {int(KeyKind.POINTER)}"
LOCK: Final = f"key = {int(KeyKind.LOCK)}"
MISSING: Final = f"status = {int(Status.MISSING)}"
OK: Final = f"status = {int(Status.OK)}"
BY_SITE: Final = f"role = {int(Role.SITE)}"
BY_FLUSHER: Final = f"role = {int(Role.FLUSHER)}"
COLUMNS: Final = ", ".join(Command._fields[:-1])
NO_END: Final = NEVER_ENDED
GET: Final = COMMAND_CODES[Get]  # its CAS is that of the write that it saw
SET: Final = COMMAND_CODES[Set]
INCR: Final = COMMAND_CODES[Incr]


class Reset(NamedTuple):
    """The pointer was set; `at` is its CAS, or the first that it can have had."""

    at: int
    kind: str  # drain, cold, one, foreign
    command: Command | None  # None: nobody of this trial sent it
    seen: Command | None  # what made its sender do so: a missing key, or the pointer it read
    numbered: bool = True


class Order:
    """Which of two commands came first, as far as that can be known."""

    @staticmethod
    def before(one: Command, other: Command) -> bool | None:
        """True, False, or None when they overlap and no CAS tells."""
        if one.cas and other.cas and one.daemon == other.daemon and one.life == other.life >= 0:
            mutations = all(c.command != GET for c in (one, other))
            if mutations:
                return one.cas < other.cas
        if one.who == other.who:
            return one.begin_ns < other.begin_ns
        if one.end_ns and one.end_ns < other.begin_ns:
            return True
        if other.end_ns and other.end_ns < one.begin_ns:
            return False
        return None


class Queues:
    """What happened to the queues, looked up by vote, slot, place or operation."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, votes: Sequence[int]) -> None:
        self._connection = connection
        self._lives = lives_of_all(connection)
        connection.register("lives", self._lives)
        condemned = pd.DataFrame({"vote": np.array(sorted(set(votes)), dtype=np.uint64)})
        connection.register("condemned", condemned)
        connection.execute(
            f"""CREATE TEMP TABLE own AS SELECT * FROM commands
            WHERE vote IN (SELECT vote FROM condemned) AND (
                {SLOT} AND {any_of(Set, Add)} OR {any_of(InsertBallots)} AND {BY_SITE})"""
        )
        self.own = self._by(self._rows("SELECT {} FROM own"), lambda c: c.vote)
        self.carried = self._by(
            self._rows(
                f"""SELECT {{}} FROM commands WHERE vote IN (SELECT vote FROM condemned)
                AND {SLOT} AND {any_of(Get)} AND {BY_FLUSHER}"""
            ),
            lambda c: c.vote,
        )
        self._load_slots()
        self.drawn = self._by(
            self._rows(
                f"""SELECT {{}} FROM commands WHERE {POINTER} AND {any_of(Incr, Set)}
                AND (pid, thread, operation) IN (SELECT (pid, thread, operation) FROM own)"""
            ),
            lambda c: c.who,
        )
        self.batches = self._by(
            self._rows(f"SELECT {{}} FROM commands WHERE {any_of(InsertBallots)} AND {BY_FLUSHER}"),
            lambda c: c.who,
        )
        self.looks = self._by(
            self._rows(
                f"SELECT {{}} FROM commands WHERE {POINTER} AND {any_of(Get)} AND {BY_FLUSHER}"
            ),
            lambda c: c.who,
        )
        self._load_resets()
        self._touches: dict[tuple[Place, int], tuple[Ints, Ints, Ints]] = {}
        self._pointers: dict[Place, pd.DataFrame] = {}

    def _rows(self, sql: str) -> list[Command]:
        """The rows of a query as commands, in order of their begin, each with its life."""
        frame = self._connection.execute(sql.format(COLUMNS) + " ORDER BY begin_ns").df()
        life = self._life(frame)
        columns = [frame[name].tolist() for name in Command._fields[:-1]]
        return [Command(*row) for row in zip(*columns, life.tolist(), strict=True)]

    def _life(self, frame: pd.DataFrame) -> Ints:
        found = np.full(len(frame), -1, dtype=np.int64)
        begin, end = frame["begin_ns"].to_numpy(), frame["end_ns"].to_numpy()
        daemon = frame["daemon"].to_numpy()
        names = ("daemon", "life", "life_start_ns", "life_end_ns")
        for of, life, start, stop in zip(*(self._lives[n].tolist() for n in names), strict=True):
            inside = (begin >= start) & (begin < stop) & (end < stop)
            inside &= (end > 0) | (stop == NO_END)
            found[(daemon == of) & inside] = life
        known = set(self._lives["daemon"])
        found[[d not in known for d in daemon.tolist()]] = 0
        return found

    @staticmethod
    def _by(
        rows: Iterable[Command], key: Callable[[Command], Key]
    ) -> defaultdict[Key, list[Command]]:
        found: defaultdict[Key, list[Command]] = defaultdict(list)
        for row in rows:
            found[key(row)].append(row)
        return found

    def _load_slots(self) -> None:
        """All commands on slots in which a condemned vote was stored, by queue and slot."""
        frame = self._connection.execute(
            f"""SELECT {COLUMNS} FROM commands WHERE {SLOT} AND {any_of(Get, Set, Add)}
            AND (queue, slot) IN (SELECT DISTINCT queue, slot FROM own WHERE {SLOT})
            ORDER BY queue, slot, begin_ns"""
        ).df()
        frame["life"] = self._life(frame)
        self._slots = frame
        self._cas = frame["cas"].to_numpy(dtype=np.int64)
        self._columns = [frame[name].to_numpy() for name in Command._fields]
        keys = frame[["queue", "slot"]].to_numpy(dtype=np.int64)
        changes = np.flatnonzero(np.any(keys[1:] != keys[:-1], axis=1)) + 1
        starts = [0, *changes.tolist()] if len(keys) else []
        stops = [*starts[1:], len(keys)] if len(keys) else []
        self._places = {
            (int(keys[a, 0]), int(keys[a, 1])): (a, b) for a, b in zip(starts, stops, strict=True)
        }
        self._kinds = frame["command"].to_numpy()

    def select(
        self,
        store: Command,
        *,
        reads: bool,
        after_cas: int | None = None,
        cas: int | None = None,
        who: Who | None = None,
        status: Status | None = None,
        anywhere: bool = False,
    ) -> list[Command]:
        """Reads of, or stores into, the store's slot, in order of their begin.

        On its daemon, unless `anywhere`.
        """
        start, stop = self._places.get((store.queue, store.slot), (0, 0))
        part = slice(start, stop)
        found = (self._kinds[part] == GET) == reads
        if not anywhere:
            found &= self._columns[Command._fields.index("daemon")][part] == store.daemon
        if after_cas is not None:
            found &= self._cas[part] > after_cas
        if cas is not None:
            found &= self._cas[part] == cas
        if status is not None:
            found &= self._columns[Command._fields.index("status")][part] == int(status)
        if who is not None:
            for name, value in zip(("pid", "thread", "operation"), who, strict=True):
                found &= self._columns[Command._fields.index(name)][part] == value
        rows = np.flatnonzero(found) + start
        return [Command(*(int(column[row]) for column in self._columns)) for row in rows]

    def _load_resets(self) -> None:
        """Every `set` of a pointer with its reason, and every time it went back by itself."""
        rows = self._rows(
            f"""SELECT {{}} FROM commands WHERE (
                {POINTER} AND {any_of(Get, Set, Incr)}
                OR {LOCK} AND ({any_of(Set)} OR {any_of(Incr)} AND {MISSING}))
            AND (pid, thread, operation) IN (SELECT DISTINCT (pid, thread, operation)
                FROM commands WHERE {POINTER} AND {any_of(Set)})"""
        )
        self.resets: dict[tuple[Place, int], list[Reset]] = defaultdict(list)
        self.unnumbered: dict[Place, list[Reset]] = defaultdict(list)
        self._sets: dict[Who, list[Command]] = defaultdict(list)
        last: dict[Who, Command] = {}
        lock: dict[Who, Command] = {}
        for row in rows:
            if row.key == KeyKind.POINTER and row.command == SET:
                self._sets[row.who].append(row)
                before = last.get(row.who)
                if before is None or before.key == KeyKind.LOCK:
                    reset = Reset(row.cas, "cold", row, lock.get(row.who))
                elif before.command == INCR:
                    reset = Reset(row.cas, "one", row, before)
                else:
                    reset = Reset(row.cas, "drain", row, before)
                if row.cas and row.life >= 0:
                    self.resets[row.place, row.life].append(reset)
                elif row.status == Status.LOST:
                    self.unnumbered[row.place].append(reset._replace(numbered=False))
            elif row.key == KeyKind.LOCK and row.command == INCR:
                lock[row.who] = row
            last[row.who] = row
        for found in self.resets.values():
            found.sort(key=lambda reset: reset.at)
        self._load_falls()
        self._marks = {place: [r.at for r in found] for place, found in self.resets.items()}

    def _load_falls(self) -> None:
        """Where an `incr` gave no more than the one before it, and nobody was told of a `set`."""
        mutations = self._connection.execute(
            f"""SELECT * FROM (
                SELECT {COLUMNS}, lag(number) OVER turn AS was, lag(command) OVER turn AS by_what,
                    lag(cas) OVER turn AS earlier, life
                FROM commands JOIN lives ON commands.daemon = lives.daemon
                    AND begin_ns >= life_start_ns AND end_ns < life_end_ns
                WHERE {POINTER} AND {IS_MUTATION}
                WINDOW turn AS (PARTITION BY queue, commands.daemon, life ORDER BY cas))
            WHERE command = {INCR} AND by_what = {INCR} AND number <= was""".replace(
                "daemon, role", "commands.daemon AS daemon, role"
            )
        ).fetchall()
        width = len(Command._fields) - 1
        for row in mutations:
            command = Command(*row[:width])._replace(life=row[-1])
            at = int(row[width + 2]) + 1
            unheard = [
                reset
                for reset in self.unnumbered[command.place]
                if reset.command and reset.command.begin_ns < command.end_ns
            ]
            fall = unheard[-1]._replace(at=at) if unheard else Reset(at, "foreign", None, command)
            self.resets[command.place, command.life].append(fall)
        for found in self.resets.values():
            found.sort(key=lambda reset: reset.at)

    def reset_after(self, place: Place, life: int, cas: int) -> Reset | None:
        """The first time that the pointer was set after this CAS."""
        found = self.resets.get((place, life), [])
        index = bisect_right(self._marks.get((place, life), []), cas)
        return found[index] if index < len(found) else None

    def resets_between(self, place: Place, life: int, low: int, high: int) -> list[Reset]:
        """Those with a CAS above `low`, up to `high`."""
        marks = self._marks.get((place, life), [])
        return self.resets.get((place, life), [])[
            bisect_right(marks, low) : bisect_right(marks, high)
        ]

    def touched(self, key: KeyKind, seen: Command) -> tuple[int, int]:
        """The CAS of the last write of lock or pointer that surely, and that may have, preceded.

        0 where there was none in that life.
        """
        slot = (seen.place, int(key))
        if slot not in self._touches:
            frame = self._connection.execute(
                f"""SELECT begin_ns, end_ns, daemon, cas FROM commands
                WHERE key = {int(key)} AND queue = {seen.queue} AND daemon = {seen.daemon}
                AND {IS_MUTATION} ORDER BY end_ns"""
            ).df()
            life = self._life(frame)
            self._touches[slot] = (
                frame["begin_ns"].to_numpy(), frame["end_ns"].to_numpy(),
                np.where(life == seen.life, frame["cas"].to_numpy(dtype=np.int64), 0),
            )  # fmt: skip
        begin, end, cas = self._touches[slot]
        surely = cas[: np.searchsorted(end, seen.begin_ns)]
        maybe = cas[begin < (seen.end_ns or NO_END)]
        return int(surely.max(initial=0)), int(maybe.max(initial=0))

    def known_since(self, key: KeyKind, seen: Command, moment_ns: int) -> bool:
        """Whether lock or pointer was written after the moment and before it was seen missing."""
        rows = self._connection.execute(
            f"""SELECT count(*) FROM commands WHERE key = {int(key)} AND queue = {seen.queue}
            AND daemon = {seen.daemon} AND {IS_MUTATION}
            AND begin_ns > {moment_ns} AND end_ns < {seen.begin_ns}"""
        ).fetchall()
        return bool(rows[0][0])

    def refused_before(self, seen: Command) -> Command | None:
        """A store of lock or pointer that memcached refused, if none was done between that and
        when the key was seen missing: it drops what it held when it refuses a `set`."""
        rows = self._rows(
            f"""SELECT {{}} FROM commands WHERE key = {seen.key} AND queue = {seen.queue}
            AND daemon = {seen.daemon} AND {any_of(Set)}
            AND status IN ({int(Status.OK)}, {int(Status.REFUSED)})
            AND begin_ns < {seen.begin_ns} AND end_ns > 0"""
        )
        last = rows[-1] if rows else None
        return last if last and last.status == Status.REFUSED else None

    def pointer_after(self, place: Place, moment_ns: int) -> Command | None:
        """What was heard of a pointer first in a command sent after the moment."""
        if place not in self._pointers:
            frame = self._connection.execute(
                f"""SELECT {COLUMNS} FROM commands WHERE {POINTER} AND queue = {place[0]}
                AND daemon = {place[1]} AND {any_of(Get, Incr)}
                AND status IN ({int(Status.OK)}, {int(Status.MISSING)}) ORDER BY begin_ns"""
            ).df()
            self._pointers[place] = frame.assign(life=self._life(frame))
        frame = self._pointers[place]
        row = int(np.searchsorted(frame["begin_ns"].to_numpy(), moment_ns, side="right"))
        return Command(*map(int, frame.iloc[row])) if row < len(frame) else None

    def pointer_of_other_epoch(self, place: Place, store: Command) -> Command | None:
        """The first look at the pointer after the store that found none, or another epoch's."""
        self.pointer_after(place, store.end_ns)
        frame = self._pointers[place]
        gone = (frame["begin_ns"] > store.end_ns) & (
            (frame["status"] == int(Status.MISSING))
            | (frame["number"].astype(np.int64) // 2**EPOCH_BITS != epoch_of(store.slot))
        )
        rows = np.flatnonzero(gone.to_numpy())
        return Command(*map(int, frame.iloc[int(rows[0])])) if len(rows) else None

    def draw_in(self, read: Command, low: int, high: int) -> Command | None:
        """Who drew the slot that was read, between two CAS numbers."""
        found = self._rows(
            f"""SELECT {{}} FROM commands WHERE {POINTER} AND {IS_MUTATION}
            AND queue = {read.queue} AND daemon = {read.daemon} AND cas BETWEEN {low} AND {high}
            AND (number = {read.slot} AND {any_of(Incr)} OR cas = {low})"""
        )
        drawn = [c for c in found if c.life == read.life and c.number == read.slot]
        return next(iter(drawn or [c for c in found if c.life == read.life]), None)

    def resets_of(self, who: Who) -> list[Command]:
        """The `set`s of pointers that an operation sent."""
        return self._sets.get(who, [])

    def life_ended(self, daemon: int, life: int) -> bool:
        """Whether memcached was started again after that life."""
        lives = self._lives[self._lives["daemon"] == daemon]["life"]
        return bool(len(lives)) and int(lives.max()) > life

    def others_drained(self, store: Command, daemon: int) -> bool:
        """Whether drains looked for the pointer on other daemons only, once it was stored."""
        places = {
            look.daemon
            for found in self.looks.values()
            for look in found
            if look.queue == store.queue and look.begin_ns > store.end_ns
        }
        return bool(places) and daemon not in places

    def last_ok_read(self, read: Command) -> int:
        """When the drain last read something out of a slot of the daemon; 0: never."""
        rows = self._connection.execute(
            f"""SELECT max(begin_ns) FROM commands WHERE pid = {read.pid}
            AND thread = {read.thread} AND operation = {read.operation}
            AND daemon = {read.daemon} AND {SLOT} AND {any_of(Get)} AND {OK}"""
        ).fetchall()
        return int(rows[0][0] or 0)

    def lock_lived(self, place: Place, after_ns: int, until_ns: int) -> bool:
        """Whether somebody was refused by the lock in between, which proves that it was there."""
        rows = self._connection.execute(
            f"""SELECT count(*) FROM commands WHERE {LOCK} AND {any_of(Incr)} AND {OK}
            AND queue = {place[0]} AND daemon = {place[1]} AND number > 1
            AND begin_ns > {after_ns} AND end_ns < {until_ns}"""
        ).fetchall()
        return bool(rows[0][0])
