"""`pollstorm explore`: every order of a few processes' commands, and the shortest that loses."""

from contextlib import nullcontext
from pathlib import Path
from secrets import randbelow
from typing import Any, Final

import click
import msgspec
from rich.console import Console

from harness.errors import Exit, PlanError
from harness.exploration import search
from harness.exploration.bounds import (
    ALL,
    DRAWN,
    MOST_DRAINS,
    MOST_READERS,
    MOST_TAKEOVERS,
    MOST_WRITERS,
    READER,
    WRITER,
    Bounds,
    Reductions,
)
from harness.exploration.chance import Chance
from harness.exploration.report import Exploration, describe
from harness.exploration.search import MOST_NUMBERED
from harness.exploration.space import ProtocolOf, Space
from harness.exploration.table import print_exploration
from harness.exploration.witness import require_writable, save_witness
from harness.modes.mode import find_mode
from harness.protocol.queue import Terms
from harness.services.interruption import interruptible

SEEDS: Final = 1_000_000  # to draw one from; short enough to be typed

EXAMPLES = """\b
Examples:
  pollstorm explore classic --writers 1 --readers 1 --takeovers 1
  pollstorm explore classic --cold --takeovers 0
  pollstorm explore ticket --writers 2 --readers 2
  pollstorm explore classic --writers 6 --readers 3 --random 1000 --seed 1
  pollstorm explore ticket --drains 2 --wipe --json | jq .verdict

Exit codes: 0 no loss in all states, 3 the bounds were not exhausted, 99 it loses."""


@click.command(epilog=EXAMPLES, short_help="Every order of a few commands: the shortest loss.")
@click.argument("protocol")
@click.option(
    "--writers",
    type=click.IntRange(1, MOST_WRITERS),
    default=2,
    show_default=True,
    metavar="N",
    help="Processes with one vote each.",
)
@click.option(
    "--readers",
    type=click.IntRange(0, MOST_READERS),
    default=1,
    show_default=True,
    metavar="N",
    help="Processes that drain.",
)
@click.option(
    "--drains",
    type=click.IntRange(1, MOST_DRAINS),
    default=1,
    show_default=True,
    metavar="N",
    help="Drains of each reader, one after the other.",
)
@click.option(
    "--takeovers",
    type=click.IntRange(0, MOST_TAKEOVERS),
    default=1,
    show_default=True,
    metavar="N",
    help="How often patience may end, or an owned lock expire while it is held.",
)
@click.option("--cold", is_flag=True, help="Nothing is in memcached at the start.")
@click.option(
    "--crash",
    type=click.Choice([WRITER, READER]),
    help="One process of this kind may die, before any of its commands.",
)
@click.option("--wipe", is_flag=True, help="Once, all items of one memcached vanish.")
@click.option("--evict-pointer", is_flag=True, help="Once, a pointer vanishes.")
@click.option(
    "--expire-tombstones", is_flag=True, help="Once, more time passes than a tombstone lives."
)
@click.option(
    "--lost-reply", is_flag=True, help="Once, memcached's reply is lost, or else the command."
)
@click.option(
    "--max-states",
    type=click.IntRange(1, MOST_NUMBERED),
    metavar="N",
    help="Give up after so many; exit code 3.",
)
@click.option(
    "--random",
    "runs",
    type=click.IntRange(min=1),
    metavar="RUNS",
    help="Draw so many schedules instead of visiting all.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="N",
    help="Of --random; otherwise drawn, and printed.",
)
@click.option(
    "--witness",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Save a losing schedule for pollstorm replay.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def explore(
    protocol: str,
    crash: str | None,
    max_states: int | None,
    runs: int | None,
    seed: int | None,
    witness: Path | None,
    as_json: bool,
    **chosen: Any,
) -> int:
    """Visit every interleaving of the processes' commands within the bounds.

    PROTOCOL is the name of a mode that has a queue: classic, owned, ticket, mirrored or your own.
    Prints the shortest schedule, in memcached commands, that loses an acknowledged vote or delivers
    one twice; or that there is none.
    """
    bounds = Bounds(crash=crash or "", **chosen)
    if witness:
        require_writable(witness)
    protocol_of = queued(protocol)
    if runs is None and seed is not None:
        raise PlanError("--seed goes with --random; a search of all states draws nothing")
    if runs is not None and max_states is not None:
        raise PlanError("--max-states ends a search of all states; --random draws schedules")
    if crash == READER and not bounds.readers:
        raise PlanError("--crash reader needs a reader, and there is none with --readers 0")
    console = Console()
    spinner = console.status("exploring") if console.is_terminal else nullcontext()
    with interruptible(), spinner as status:

        def tell(line: str) -> None:
            if status and not as_json:
                status.update(f"exploring: {line}")

        if runs is None:
            space, finding = search.explore(protocol_of, bounds, most_states=max_states, tell=tell)
            found = describe(protocol, space, finding)
        else:
            space = space_of(protocol, bounds, DRAWN)
            drawn = Chance(space).run(runs, randbelow(SEEDS) if seed is None else seed, tell)
            found = describe(protocol, space, drawn.finding, drawn)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        print_exploration(found, console)
    if witness:
        click.echo(_keep(found, witness), err=True)
    return exit_code(found)


def _keep(found: Exploration, path: Path) -> str:
    """Save the witness, if there is one; what was done, in a line."""
    if not found.lost and not found.doubled:
        return "no vote is lost or doubled, so no witness was written"
    save_witness(found, path)
    return f"replay it with: pollstorm replay {path}"


def queued(protocol: str) -> ProtocolOf:
    """A mode's protocol. Raises PlanError for a mode that queues nothing."""
    mode = find_mode(protocol)
    if mode.protocol(Terms()).drain is None:
        raise PlanError(f"{protocol} has no queue, so there is no order of commands to explore")
    return mode.protocol


def space_of(protocol: str, bounds: Bounds, reductions: Reductions = ALL) -> Space:
    """The space of a mode's protocol. Raises PlanError for a mode that queues nothing."""
    return Space(queued(protocol), bounds, reductions)


def exit_code(found: Exploration) -> Exit:
    """What the verdict means for a script."""
    codes = {"safe": Exit.OK, "loses": Exit.BROKEN_PROMISE, "unfinished": Exit.INCONCLUSIVE}
    return codes[found.verdict]
