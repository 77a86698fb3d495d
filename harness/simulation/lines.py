"""The way from a thread of site or flusher to one server, with all that can befall it.

A line is what a performer sends commands on where something can go wrong: the server stands still
or is dead, the network loses what is sent or answered. Then its client hears LOST after the plan's
time-out, or at once when the connection breaks, and UNREACHABLE (of a database REFUSED) when there
is none to be had. A command that had arrived is carried out all the same, whoever still waits.

    client ── sent ──> weather ──> server's thread ── carried out ──> weather ──> client
       └── time-out: LOST, the connection is given up; what is on its way stays on its way
"""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, Final, NamedTuple, Protocol

from harness.protocol.commands import Pipeline, Reply, Status
from harness.simulation.daemons import Answered, DatabaseThread
from harness.simulation.events import Act, Events
from harness.simulation.process import Process

REFUSAL_NS: Final = 50_000  # how soon a machine says that nobody listens there


class Author(NamedTuple):
    """Whose command it is: one run of one machine, as the journal names it."""

    role: int
    pid: int
    thread: int
    operation: int
    queue: int


class Witness(Protocol):
    """Who sees all that happens on a server, in the order in which it does."""

    def carried_out(self, author: Author, command: Any, reply: Reply) -> None:
        """One command, a part of a pipeline among others, was carried out with that reply."""

    def heard(self, author: Author, command: Any, reply: Reply) -> None:
        """The reply to a whole command has come to its client; LOST means that none will."""


class Weather:
    """What the network between the site and one server does just now; nothing is fair."""

    def __init__(self, events: Events, random: Random) -> None:
        self.delay_ns: Callable[[], int] | None = None
        """How long a request takes beyond the usual."""
        self.drop_request = 0.0  # shares; what is dropped takes its connection with it
        self.drop_reply = 0.0
        self.cut_requests = False  # what is sent that way vanishes, and nobody is told
        self.cut_replies = False
        self.stalled = False
        self._events = events
        self._random = random
        self._held: list[Act] = []

    def forth(self, exchange: "Exchange") -> None:
        """Take a request to the server, or not."""
        if self.drop_request and self._random.random() < self.drop_request:
            self._events.at(self._events.now_ns + REFUSAL_NS, exchange.break_off)
        elif not self.cut_requests:
            self._later(exchange.arrive, self.delay_ns)

    def back(self, exchange: "Exchange", reply: Reply) -> None:
        """Take a reply to its client, or not."""
        if self.drop_reply and self._random.random() < self.drop_reply:
            self._events.at(self._events.now_ns + REFUSAL_NS, exchange.break_off)
        elif not self.cut_replies:
            self._later(partial(exchange.deliver, reply))

    def clear(self) -> None:
        """Fair again: what was held back goes on its way."""
        self.delay_ns = None
        self.drop_request = self.drop_reply = 0.0
        self.cut_requests = self.cut_replies = self.stalled = False
        held, self._held = self._held, []
        for act in held:
            act()

    def _later(self, act: Act, delay_ns: Callable[[], int] | None = None) -> None:
        if self.stalled:
            self._held.append(act)
        elif delay_ns:
            self._events.at(self._events.now_ns + delay_ns(), act)
        else:
            act()


class Daemon(Protocol):
    """A server as a machine at work."""

    process: Process

    def connect(self) -> Callable[..., None]: ...

    def restart(self) -> None: ...


class Server:
    """One server as its clients have it."""

    def __init__(self, daemon: Daemon, unreachable: Status, weather: Weather) -> None:
        """`unreachable`: what a client hears for want of a connection."""
        self.daemon = daemon
        self.unreachable = unreachable
        self.weather = weather
        self.full = False
        """Whether it takes no new connections."""
        self._under_way: dict[Exchange, None] = {}

    @property
    def is_up(self) -> bool:
        return not self.daemon.process.dead

    def kill(self) -> None:
        """Its process dies, and every connection with it."""
        self.daemon.process.die()
        self.break_connections()

    def break_connections(self) -> None:
        """Whoever waits for a reply hears that none will come. Idle connections are noticed when
        they are used next, which here is as if there had been none."""
        broken, self._under_way = self._under_way, {}
        for exchange in broken:
            exchange.break_off()

    def begin(self, exchange: "Exchange") -> None:
        self._under_way[exchange] = None

    def end(self, exchange: "Exchange") -> None:
        self._under_way.pop(exchange, None)


class Exchange:
    """One command on its way, and the reply to it."""

    __slots__ = ("_author", "_hear", "_line", "command", "over", "sent_ns")

    def __init__(self, line: "Line", command: Any, author: Author, hear: Answered) -> None:
        self.command = command
        self.over = False
        """Whether its client has heard something, or has given up."""
        self.sent_ns = line.events.now_ns
        self._line = line
        self._author = author
        self._hear = hear

    def arrive(self) -> None:
        """The command reaches the server, unless that is gone."""
        line = self._line
        if not line.server.is_up:
            line.events.at(line.events.now_ns + REFUSAL_NS, self.break_off)
            return
        # What comes late comes by the connection that its client has given up since.
        thread_ask = line.server.daemon.connect() if self.over else line.connection()
        if isinstance(getattr(thread_ask, "__self__", None), DatabaseThread):
            thread_ask(self.command, self.answered, self.execute, self.is_given_up)
        else:
            thread_ask(self.command, self.answered, self.execute)

    def execute(self, command: Any, now_ns: int) -> Reply:
        """At the server: carry it out, seen by the witness."""
        line = self._line
        reply = line.execute(command, now_ns)
        if line.witness:
            line.witness.carried_out(self._author, command, reply)
        return reply

    def answered(self, reply: Reply) -> None:
        """At the server: all is carried out."""
        if not self.over:
            self._line.server.weather.back(self, reply)

    def deliver(self, reply: Reply) -> None:
        """At the client."""
        if self.over:
            return
        self._end(reply)

    def break_off(self) -> None:
        """The connection is no more, and its client notices."""
        if not self.over:
            self._line.disconnect()
            self._end(unheard(self.command, Status.LOST))

    def is_given_up(self) -> bool:
        return self.over or self._line.client.dead

    def _end(self, reply: Reply) -> None:
        self.over = True
        self._line.server.end(self)
        if self._line.witness and not self._line.client.dead:
            self._line.witness.heard(self._author, self.command, reply)
        self._hear(reply)


class Line:
    """One thread's connection to one server, opened when first used."""

    def __init__(
        self,
        events: Events,
        server: Server,
        client: Process,
        author: Callable[[], Author],
        execute: Callable[[Any, int], Reply],
        timeout_ns: int,
        witness: Witness | None,
    ) -> None:
        self.events = events
        self.server = server
        self.client = client
        self.execute = execute
        self.witness = witness
        self.exchange: Exchange | None = None
        """The last one."""
        self._author = author
        self._timeout_ns = timeout_ns
        self._connection: Callable[..., None] | None = None
        self._process: Process | None = None
        self._watched = False

    def ask(self, command: Any, hear: Answered) -> None:
        """Send the command; its reply, or that there is none, is told to `hear` once."""
        server, now_ns = self.server, self.events.now_ns
        if not server.is_up or (server.full and not self._is_connected()):
            nobody = unheard(command, server.unreachable)
            if self.witness:
                self.witness.heard(self._author(), command, nobody)
            self.events.at(now_ns + REFUSAL_NS, partial(hear, nobody))
            return
        self.exchange = exchange = Exchange(self, command, self._author(), hear)
        server.begin(exchange)
        if not self._watched:
            self._watched = True
            self.events.at(now_ns + self._timeout_ns, self._time_out)
        server.weather.forth(exchange)

    def connection(self) -> Callable[..., None]:
        """The server's end of it; another one after it was given up, or the server restarted."""
        if not self._is_connected():
            self._process = self.server.daemon.process
            self._connection = self.server.daemon.connect()
        assert self._connection
        return self._connection

    def disconnect(self) -> None:
        self._connection = None

    def _is_connected(self) -> bool:
        return self._connection is not None and self._process is self.server.daemon.process

    def _time_out(self) -> None:
        """One watch at a time; it looks whether what is under way now has waited for too long."""
        self._watched = False
        exchange = self.exchange
        if exchange is None or exchange.over or self.client.dead:
            return
        if self.client.stopped:
            self.client.hold(self._wait_anew)
            return
        due_ns = exchange.sent_ns + self._timeout_ns
        if due_ns <= self.events.now_ns:
            exchange.break_off()
        else:
            self._watched = True
            self.events.at(due_ns, self._time_out)

    def _wait_anew(self) -> None:
        """A client that was stopped begins its waiting again when it goes on."""
        if self.exchange is not None and not self.exchange.over and not self._watched:
            self.exchange.sent_ns = self.events.now_ns
            self._watched = True
            self.events.at(self.exchange.sent_ns + self._timeout_ns, self._time_out)


def unheard(command: Any, status: Status) -> Reply:
    """What a client takes for the reply when none comes: of a pipeline each part."""
    if isinstance(command, Pipeline):
        return Reply(Status.OK, parts=(Reply(status),) * len(command.commands))
    return Reply(status)
