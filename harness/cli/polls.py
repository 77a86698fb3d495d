"""`pollstorm polls`: the polls that a site's database holds."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import msgspec
import pymysql
from pymysql.constants import ER
from pymysql.cursors import Cursor
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.cache import connect as connect_memcached
from harness.cli.poll_file import read_polls
from harness.database import polls as kept
from harness.database import schema
from harness.database.connections import connect
from harness.database.polls import Closing, Creation, Standing
from harness.errors import Exit, PlanError, ServiceError
from harness.modes.polls import MEMORY_S, NOTICED_WITHIN_S, forget_poll
from harness.plan import QueuePlan
from harness.slo import nearest
from harness.vote import Poll, flaw

TIMEOUT_S: Final = 10.0  # for each statement: totals of some million ballots take about a second

EXAMPLES: Final = """\b
Examples:
  pollstorm polls create town-hall --database mysql://me:secret@127.0.0.1/votes \\
      --question 'Should the town hall be painted orange?' --choice Yes --choice No --once
  pollstorm polls import polls.toml --database mysql://me:secret@127.0.0.1/votes
  pollstorm polls list --database mysql://me:secret@127.0.0.1/votes
  pollstorm polls close town-hall --database mysql://me:secret@127.0.0.1/votes

With POLLSTORM_DATABASE=URL in the environment no password stands in a command.
"""

database = click.option(
    "--database",
    metavar="URL",
    required=True,
    envvar="POLLSTORM_DATABASE",
    help="The site's database, mysql://user:password@host:port/name; or POLLSTORM_DATABASE.",
)
memcached = click.option(
    "--memcached",
    metavar="HOST:PORT,…",
    help="The site's memcached, so that it learns of a change at once, and not from the database.",
)
prefix = click.option(
    "--prefix",
    default=QueuePlan().prefix,
    show_default=True,
    metavar="TEXT",
    help="With --memcached: the site's queue.prefix.",
)
replace = click.option(
    "--replace",
    is_flag=True,
    help="Change the poll of that name. What it has ballots for is never changed.",
)


@click.group(epilog=EXAMPLES, short_help="Create, import, list and close polls.")
def polls() -> None:
    """The polls of a site, which are kept in its database. Tables are created where missing."""


@polls.command(short_help="Create one poll.")
@click.argument("name")
@click.option("--question", required=True, metavar="TEXT", help="What is asked.")
@click.option(
    "--choice",
    "choices",
    multiple=True,
    metavar="TEXT",
    help="One answer; at least two are needed.",
)
@click.option("--once", is_flag=True, help="Each voter is counted once at most.")
@replace
@memcached
@prefix
@database
def create(
    name: str,
    question: str,
    choices: tuple[str, ...],
    once: bool,
    replace: bool,
    memcached: str | None,
    prefix: str,
    database: str,
) -> int:
    """Create the poll NAME, such as town-hall-2; it is open at once."""
    poll = Poll(name, question, choices, once)
    if wrong := flaw(poll):
        raise PlanError(f"flags: {wrong}")
    cached = Cached(memcached, prefix)
    return _create([poll], database, cached, replace=replace, where="flags")


@polls.command("import", short_help="Create the polls of a file.")
@click.argument("file", type=click.Path(path_type=Path))
@replace
@memcached
@prefix
@database
def import_(file: Path, replace: bool, memcached: str | None, prefix: str, database: str) -> int:
    """Create all polls of FILE, a TOML file with a table [[polls]] for each, or none of them.

    A table has name, question, choices and, if each voter is counted once at most, once = true.
    """
    cached = Cached(memcached, prefix)
    return _create(read_polls(file), database, cached, replace=replace, where=str(file))


@polls.command("list", short_help="All polls, and how they stand.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@database
def list_(as_json: bool, database: str) -> int:
    """Print all polls with their totals, open ones first.

    Totals are the ballots in the database; votes that a queue still holds are not among them.
    """
    with _cursor(database) as cursor:
        found = _without_tables(cursor, kept.standings, [])
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode([_entry(one) for one in found])))
    elif found:
        show(found, Console())
    else:
        click.echo("no polls yet; `pollstorm polls create -h` shows how to make one")
    return Exit.OK


@polls.command(short_help="Have a poll take no votes any more.")
@click.argument("name")
@memcached
@prefix
@database
def close(name: str, memcached: str | None, prefix: str, database: str) -> int:
    """Close the poll NAME. Its results stay."""
    cached = Cached(memcached, prefix)
    with _cursor(database) as cursor:
        closed = _without_tables(cursor, partial(kept.close, name=name), Closing.UNKNOWN)
        if closed is Closing.UNKNOWN:
            names = [one.poll.name for one in _without_tables(cursor, kept.standings, [])]
            raise PlanError(
                f"no poll {name!r} (`pollstorm polls list` shows all){nearest(name, names)}"
            )
    if closed is Closing.CLOSED_BEFORE:
        click.echo(f"{name} was closed before")
    else:
        within_s = cached.forget(name)
        click.echo(f"closed {name}; a running site notices within {within_s:g} s")
    return Exit.OK


class Cached:
    """Polls as a site has them in memcached, if one is given."""

    def __init__(self, daemons: str | None, prefix: str) -> None:
        """Raises PlanError for what is no list of daemons."""
        self._daemons = daemons
        self._prefix = prefix
        if daemons is not None:
            try:
                connect_memcached(daemons).close()  # nothing is sent before it is used
            except ValueError as error:
                raise PlanError(f"--memcached: {error}") from error

    def forget(self, name: str) -> float:
        """Have it forget the poll; within how many seconds a running site then notices."""
        if self._daemons and forget_poll(self._daemons, self._prefix, name):
            return MEMORY_S
        return NOTICED_WITHIN_S


def _create(
    polls: Sequence[Poll], database: str, cached: Cached, *, replace: bool, where: str
) -> int:
    """Create all or none. Raises PlanError that names the poll which cannot be."""
    try:
        schema.create(database)
    except pymysql.MySQLError as error:
        raise _trouble(error) from error
    with _cursor(database) as cursor:
        cursor.connection.begin()
        done = [_create_one(cursor, poll, replace=replace, where=where) for poll in polls]
        cursor.connection.commit()
    for poll, creation in zip(polls, done, strict=True):
        if creation is Creation.REPLACED:
            cached.forget(poll.name)
        rule = "each voter once" if poll.once else "any number of votes"
        click.echo(f"{creation.value} {poll.name}: {len(poll.choices)} choices, {rule}")
    return Exit.OK


def _create_one(cursor: Cursor, poll: Poll, *, replace: bool, where: str) -> Creation:
    creation = kept.create(cursor, poll, replace=replace)
    if creation is Creation.EXISTS:
        raise PlanError(
            f"{where}: there is a poll {poll.name!r} already; use another name, or --replace"
        )
    if creation is Creation.HAS_BALLOTS:
        raise PlanError(
            f"{where}: poll {poll.name!r} has ballots, so its choices and how often a voter "
            "is counted stay as they are; use another name"
        )
    return creation


@contextmanager
def _cursor(database: str) -> Iterator[Cursor]:
    """What is not committed at the block's end is rolled back. Raises PlanError, ServiceError."""
    try:
        with closing(connect(database, TIMEOUT_S)) as connection, connection.cursor() as cursor:
            yield cursor
    except pymysql.MySQLError as error:
        raise _trouble(error) from error


def _trouble(error: pymysql.MySQLError) -> ServiceError:
    cause = error.args[-1] if error.args else type(error).__name__
    return ServiceError(f"the database of --database: {cause}")


def _without_tables(cursor: Cursor, ask: Callable[[Cursor], Any], otherwise: Any) -> Any:
    """What it answers; `otherwise` where nobody has created our tables yet."""
    try:
        return ask(cursor)
    except pymysql.ProgrammingError as error:
        if error.args[0] != ER.NO_SUCH_TABLE:
            raise
        return otherwise


def _state(standing: Standing) -> str:
    return "closed" if standing.closed_at else "open"


def _entry(standing: Standing) -> dict[str, object]:
    """One poll in `--json`; times are UTC."""
    poll = standing.poll
    return {
        "poll": poll.name,
        "question": poll.question,
        "once": poll.once,
        "state": _state(standing),
        "opened_at": f"{standing.opened_at.isoformat()}Z",
        "closed_at": f"{standing.closed_at.isoformat()}Z" if standing.closed_at else None,
        "choices": [
            {"choice": number, "text": text, "votes": votes}
            for number, (text, votes) in enumerate(
                zip(poll.choices, standing.counts, strict=True), start=1
            )
        ],
        "total": sum(standing.counts),
    }


def show(found: Sequence[Standing], console: Console) -> None:
    """A row for each poll; whole ones where no terminal limits them."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("poll", no_wrap=True)
    table.add_column("state")
    table.add_column("a voter")
    table.add_column("votes", justify="right")
    table.add_column("question")
    table.add_column("for each choice")
    for one in found:
        shares = zip(one.poll.choices, one.counts, strict=True)
        table.add_row(
            one.poll.name,
            Text(_state(one), style="dim" if one.closed_at else "green"),
            "once" if one.poll.once else "any number",
            f"{sum(one.counts):,}",
            Text(one.poll.question),
            Text(", ".join(f"{text} {votes:,}" for text, votes in shares)),
        )
    if not console.is_terminal:
        console.width = max(console.width, console.measure(table).maximum)
    console.print(table)
