"""The coroner of the simulated world: sees all in its true order, and knows what killed each vote.

It reads no journal. It is told of every command at the moment when a store carries it out, of every
reply that a client hears, and of processes that die, and keeps for each copy of a vote (one store
into a slot, or one that was drawn a number for) whether it can still come to be counted:

    drawn ──> lies in its slot ──> in the hands of a drain ──> committed
       └───────────┴── wounded ──────────┴── by what: the first cause since it could last be counted

A wound is not always a death: a vote that a later drain finds by luck is healed. What is wounded
and never committed is dead, of that wound. The words are those of the audit; the way there is not:
the audit looks back from the lost vote, through records that may have gaps.

What it leaves out: locks. A reset by somebody who has not read the pointer is a cold grant's, and
who was inside together with whom makes no difference to what a command did.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from harness.history.journal import Role
from harness.protocol.commands import (
    Add,
    Delete,
    Get,
    Incr,
    InsertBallot,
    InsertBallots,
    KeyKind,
    Pipeline,
    Reply,
    Set,
    Status,
)
from harness.simulation.lines import Author
from harness.simulation.records import vote_in

OVERWRITTEN: Final = "overwritten"
SKIPPED: Final = "skipped"
COLD_RESET: Final = "cold-reset"
NIL_POINTER: Final = "nil-pointer"
EVICTED: Final = "evicted"
WIPED: Final = "wiped"
STORED_LATE: Final = "stored-late"
READ_NOT_COMMITTED: Final = "read-not-committed"
ROLLED_BACK: Final = "batch-rolled-back"
SILENT_REFUSAL: Final = "silent-refusal"
STALE_SLOT: Final = "stale-slot"
DOUBLE_DRAIN: Final = "double-drain"
CLIENT_RETRY: Final = "client-retry"


class Place(NamedTuple):
    """A slot of one queue on one daemon."""

    daemon: int
    queue: int
    slot: int


class Copy:
    """One way of a vote towards a slot. Moments are numbers of commands carried out."""

    __slots__ = (
        "committed",
        "drawn",
        "hands",
        "left",
        "left_at",
        "left_by",
        "place",
        "reads",
        "stored",
        "vote",
        "wound",
    )

    def __init__(self, place: Place, drawn: int) -> None:
        self.vote = 0
        self.place = place
        self.drawn = drawn
        self.stored = 0
        """When; 0: not yet."""
        self.wound = ""
        self.left = False
        """Whether it lies in its slot no more, or the pointer was reset over it."""
        self.left_at = 0
        """When the pointer was."""
        self.left_by = ""
        """What took it out of its slot while it was in hands, and the pointer not reset."""
        self.hands: set[Author] = set()
        """The drains that have read it, and may still commit it."""
        self.reads: dict[Author, bool] = {}
        """Those that have ever read it, and whether it had not been left when they set out."""
        self.committed: list[Author] = []


class Drain:
    """What one drain has done so far."""

    __slots__ = ("looked", "plain", "pointers", "read", "seen")

    def __init__(self) -> None:
        self.pointers: dict[int, int] = {}
        """By daemon: when it read the pointer."""
        self.looked: dict[Place, int] = {}
        """When it looked into a slot, whatever it found there."""
        self.seen: dict[Place, tuple[Copy, bool]] = {}
        """What was found for it, and whether that had not been left when it set out; it may not
        have heard of it."""
        self.read: list[Copy] = []
        self.plain = True
        """Whether a vote that it commits again gains a delivery."""


class Coroner:
    """Watches one simulated trial."""

    def __init__(self) -> None:
        self._copies: list[Copy] = []
        self._straight: Counter[int] = Counter()
        """Votes that were committed without a queue, by id: how often."""
        self._moment = 0
        self._lies: dict[Place, Copy] = {}
        self._drawn: dict[Author, Copy] = {}
        self._covered: defaultdict[tuple[int, int], dict[Copy, None]] = defaultdict(dict)
        """By daemon and queue: the copies that the pointer's next reset concerns."""
        self._drains: defaultdict[Author, Drain] = defaultdict(Drain)

    def causes(self) -> dict[int, str]:
        """Of each vote that was on its way to a slot, and can not be counted any more: what of."""
        alive = set(self._straight)
        wounds: dict[int, str] = {}
        for copy in self._copies:
            if copy.committed or not copy.wound:
                alive.add(copy.vote)
            else:
                wounds[copy.vote] = copy.wound
        return {vote: cause for vote, cause in wounds.items() if vote not in alive}

    def doubles(self) -> dict[int, str]:
        """Of each vote that was committed more than once: why."""
        times = Counter(self._straight)
        twice: defaultdict[int, list[bool]] = defaultdict(list)
        for copy in self._copies:
            plain = [drain for drain in copy.committed if self._drains[drain].plain]
            times[copy.vote] += len(plain)
            if len(plain) > 1:
                twice[copy.vote] += [copy.reads[drain] for drain in plain]
        causes: dict[int, str] = {}
        for vote, number in times.items():
            if number > 1 and vote in twice:
                causes[vote] = DOUBLE_DRAIN if all(twice[vote]) else STALE_SLOT
            elif number > 1:
                causes[vote] = CLIENT_RETRY
        return causes

    # What it is told.

    def carried_out(self, author: Author, command: Any, reply: Reply) -> None:
        """A store has carried out a command, with that reply."""
        self._moment += 1
        if isinstance(command, InsertBallot):
            if reply.status is Status.OK:
                self._straight[vote_in(command.message)] += 1
        elif isinstance(command, InsertBallots):
            if reply.status is Status.OK:
                self._commit(author, command)
        elif isinstance(command, Get | Set | Add | Incr | Delete):
            key = command.key
            if key.kind is KeyKind.POINTER:
                self._pointer(author, command, reply)
            elif key.kind is KeyKind.SLOT:
                self._slot(author, command, reply, Place(key.daemon, author.queue, key.slot))

    def heard(self, author: Author, command: Any, reply: Reply) -> None:
        """A client has heard a reply, or that none will come."""
        if author.role != Role.FLUSHER:
            return
        if isinstance(command, Pipeline):
            for part, its_reply in zip(command.commands, reply.parts, strict=True):
                self._heard(author, part, its_reply)
        else:
            self._heard(author, command, reply)

    def evicted(self, daemon: int, names: Mapping[int, str], name: str) -> None:
        """A daemon has removed an item for want of memory; `names` has the queues' prefixes."""
        for place, copy in list(self._lies.items()):
            if place.daemon == daemon and name == f"{names[place.queue]}-key-{place.slot}":
                self._gone(copy, EVICTED)

    def wiped(self, daemon: int) -> None:
        """A daemon has lost everything."""
        for place, copy in list(self._lies.items()):
            if place.daemon == daemon:
                self._gone(copy, WIPED)

    def died(self, pid: int) -> None:
        """A process is no more, and with it what its drains had read and not committed."""
        for author, drain in self._drains.items():
            if author.pid == pid:
                self._let_go(author, drain, READ_NOT_COMMITTED)

    # Pointers.

    def _pointer(self, author: Author, command: Any, reply: Reply) -> None:
        daemon = command.key.daemon
        if isinstance(command, Incr) and author.role == Role.SITE:
            number = reply.number if reply.status is Status.OK else 0
            copy = Copy(Place(daemon, author.queue, number), self._moment)
            self._drawn[author] = copy
            if number:
                self._covered[daemon, author.queue][copy] = None
        elif isinstance(command, Get) and author.role == Role.FLUSHER:
            self._drains[author].pointers[daemon] = self._moment
        elif isinstance(command, Set) and reply.status is Status.OK:
            self._reset(author, daemon)

    def _reset(self, author: Author, daemon: int) -> None:
        """The pointer begins anew; what it covered is in a drain's hands now, or in nobody's."""
        covered = self._covered.pop((daemon, author.queue), {})
        drain = self._drains.get(author)
        pointer_read = drain.pointers.get(daemon) if drain else None
        for copy in covered:
            if copy.left:
                continue
            copy.left, copy.left_at = True, self._moment
            if copy.hands or copy.committed:
                continue
            if drain is None or pointer_read is None:
                copy.wound = COLD_RESET
                continue
            looked = drain.looked.get(copy.place)
            late = looked is not None and (not copy.stored or looked < copy.stored)
            copy.wound = STORED_LATE if late else SKIPPED

    # Slots.

    def _slot(self, author: Author, command: Any, reply: Reply, place: Place) -> None:
        if isinstance(command, Get):
            if author.role == Role.FLUSHER:
                drain = self._drains[author]
                drain.looked[place] = self._moment
                copy = self._lies.get(place)
                if copy is not None and reply.status is Status.OK:
                    set_out = drain.pointers.get(place.daemon, 0)
                    drain.seen[place] = copy, not copy.left or set_out < copy.left_at
        elif isinstance(command, Delete):
            if reply.status is Status.OK and place in self._lies:
                self._lies.pop(place).left = True
        elif author.role == Role.SITE:
            self._store(author, command, reply, place)
        elif reply.status is Status.REFUSED and place in self._lies:
            self._gone(self._lies[place], EVICTED)  # a tombstone for which there was no room

    def _store(self, author: Author, command: Any, reply: Reply, place: Place) -> None:
        """A vote comes to its slot, or is refused there."""
        if reply.status is Status.EXISTS:
            return  # the slot was closed, and the voter's process knows
        copy = self._drawn.pop(author, None) or Copy(place, self._moment)
        copy.vote = vote_in(command.value)
        self._copies.append(copy)
        before = self._lies.get(place)
        if reply.status is not Status.OK:
            if before is not None:
                self._gone(before, EVICTED)  # a refused store removes what was there
            copy.wound, copy.left = copy.wound or SILENT_REFUSAL, True
            return
        if place.slot == 0:
            copy.wound, copy.left = NIL_POINTER, True
            return
        if before is not None:
            self._gone(before, OVERWRITTEN)
        if not copy.place.slot:  # a pointer that was made anew with the number 1
            self._covered[place.daemon, place.queue][copy] = None
        copy.place, copy.stored = place, self._moment
        self._lies[place] = copy

    def _gone(self, copy: Copy, cause: str) -> None:
        """It lies in its slot no more."""
        del self._lies[copy.place]
        if not copy.left and copy.hands:
            copy.left_by = cause  # of which it dies if those hands let go of it
        elif not copy.left and not copy.committed:
            copy.wound = cause
        copy.left = True

    # Drains.

    def _heard(self, author: Author, command: Any, reply: Reply) -> None:
        drain = self._drains[author]
        if isinstance(command, InsertBallots):
            if reply.status is not Status.OK:
                self._let_go(author, drain, ROLLED_BACK)
        elif isinstance(command, Get) and command.key.kind is KeyKind.POINTER:
            drain.pointers.setdefault(command.key.daemon, self._moment)  # it may have got none
        elif isinstance(command, Get) and command.key.kind is KeyKind.SLOT:
            key = command.key
            found = drain.seen.pop(Place(key.daemon, author.queue, key.slot), None)
            if found and reply.status is Status.OK:
                copy, kept = found
                copy.wound = ""
                copy.hands.add(author)
                copy.reads[author] = kept
                drain.read.append(copy)

    def _commit(self, author: Author, command: InsertBallots) -> None:
        drain = self._drains[author]
        drain.plain = not command.copies
        votes = {vote_in(message) for message in command.messages}
        for copy in drain.read:
            if copy.vote in votes and author not in copy.committed:
                copy.committed.append(author)
                copy.hands.discard(author)

    def _let_go(self, author: Author, drain: Drain, cause: str) -> None:
        """What it has read it will not commit."""
        for copy in drain.read:
            if author in copy.hands:
                copy.hands.discard(author)
                if copy.left and not copy.hands and not copy.committed:
                    copy.wound = copy.left_by or cause
