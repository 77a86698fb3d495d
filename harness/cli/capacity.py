"""`pollstorm capacity`: how much each mode sustains within its objectives."""

import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from click.core import ParameterSource

from harness.capacity.breakeven import queue_of
from harness.capacity.objectives import USUAL, usual_objectives
from harness.capacity.patience import MODE as LOCK_MODE
from harness.capacity.study import PARTS, Order, result_file, study
from harness.cli.capacity_table import print_capacity
from harness.cli.options import (
    allow_target,
    ballots,
    database,
    existing_services,
    listen,
    memcached,
    remote,
    set_besides,
    settings_of,
    target,
    target_changes,
    worker_changes,
)
from harness.cli.progress import Audience, print_json, progress_on
from harness.cli.run import KNOWN, repeat_command
from harness.cli.traffic import traffic_of
from harness.errors import PlanError
from harness.modes.mode import Mode, find_mode
from harness.plan import Plan, find_scenario, read_plan, with_changes
from harness.slo import nearest

RATE: Final = re.compile(r"(\d+(?:\.\d+)?)(?:/s)?")
DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)")
SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}
READERS: Final = "arrivals.results_per_vote"  # the one thing about arrivals that a study takes over
MOST_FORECAST_PER_S: Final = 100_000.0
"""Some hundred times the rates that were measured with one machine. A simulated trial of so many
votes takes a minute and more than a gigabyte."""
OF_FLAGS: Final = {"modes": "--modes", "slo": "--slo", "seed": "--seed"}
OF_THE_STUDY: Final = ("duration_s", "repeat", "faults", "scenario", "site.journal")
OUR_FLAGS: Final = ("modes", "workers", "threads", "memcached", "database")
OUR_TABLES: Final = ("site", "queue", "flusher", "memcached", "database")
"""Of the plan: as those flags, they say nothing of a server that is somebody else's."""
VARIED: Final = {
    "scaling": ("site.workers",),
    "break-even": ("database.commit_wait_us", READERS),
    "patience": ("site.workers", "queue.patience_s", "voters.keep_alive"),
}
EPILOG: Final = f"""{KNOWN}
\b
Examples:
  pollstorm capacity --modes direct,classic,ticket --budget 6m
  pollstorm capacity --modes ticket --slo 'p99<50ms' --slo 'lost=0' --json
  pollstorm capacity --parts all --forecast 800/s --budget 30m

A refused vote in a thousand, or a backlog that grows, is a failure whatever the objectives.
docs/capacity.md says how the search goes and what it cannot tell.
"""


@click.command(epilog=EPILOG, short_help="How much each mode sustains within its objectives.")
@click.argument("scenario", default="steady-trickle")
@click.option("--modes", default="direct,cached,classic,ticket", show_default=True, metavar="A,B")
@click.option(
    "--slo", multiple=True, default=USUAL, show_default=True,
    metavar="'p99<250ms'", help="Objective; may be repeated.",
)  # fmt: skip
@click.option(
    "--budget", default="10m", show_default=True, metavar="TIME",
    help="Time for all modes together, such as 90s, 6m or 1h.",
)  # fmt: skip
@click.option(
    "--parts", default="search", show_default=True, metavar="A,B",
    help=f"What to find out besides: {', '.join(PARTS[1:])}; or all.",
)  # fmt: skip
@click.option(
    "--forecast", metavar="800/s",
    help="The peak to size for: votes per second, or a --traffic file's busiest second.",
)  # fmt: skip
@click.option(
    "--traffic", "--access-log", type=click.Path(path_type=Path), metavar="FILE",
    help="An access log or CSV whose peak is the forecast; gzipped or not.",
)  # fmt: skip
@click.option("--match", metavar="REGEX", help="Of an access log, only requests like these.")
@click.option("--scale", type=float, metavar="X", help="So many times as much of the traffic.")
@remote
@listen
@click.option("--workers", type=int, metavar="N", help="Site processes.")
@click.option("--threads", type=int, metavar="N", help="Threads per site process.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE",
    help="Any key of the plan, as arrivals.results_per_vote=1; may be repeated.",
)  # fmt: skip
@click.option("--seed", type=int, metavar="N", help="Seed of arrivals, choices and voters.")
@click.option("--keep", is_flag=True, help="Keep ledgers and journals of all steps.")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="The study's folder.")
@click.option("--json", "as_json", is_flag=True, help="Print capacity.json instead of a table.")
@memcached
@database
@allow_target
@target
@ballots
def capacity(
    scenario: str,
    modes: str,
    slo: tuple[str, ...],
    budget: str,
    parts: str,
    forecast: str | None,
    settings: tuple[str, ...],
    keep: bool,
    out: Path | None,
    as_json: bool,
    memcached: str | None,
    database: str | None,
    allow_target: tuple[str, ...],
    target: str | None,
    ballots: str | None,
    **flags: Any,
) -> int:
    """Find the highest rate of votes that each mode sustains within its objectives.

    SCENARIO gives the site, the queue and the poll; how voters come is the search's own doing, and
    nothing is broken on purpose. The load generator's ceiling is measured first, and no rate above
    70 % of it is used for a claim.
    """
    existing = existing_services(memcached, database, allow_target)
    changes: dict[str, Any] = {
        "memcached.daemons": len(existing.memcached) or None,
        "modes": [mode.strip() for mode in modes.split(",") if mode.strip()],
        "slo": list(slo),
        **worker_changes(flags["remote"], flags["listen"]),
        "site.workers": flags["workers"],
        "site.threads": flags["threads"],
        "seed": flags["seed"],
        **target_changes(target, ballots, allow_target),
    }
    set_by_key = settings_of(settings)
    require_settable(set_by_key)
    changes = set_besides(changes, settings)
    peak_per_s = forecast_of(forecast, flags)
    wanted = parts_of(parts, changes["modes"], sized=peak_per_s is not None)
    require_no_contradiction(changes, wanted)
    plan = plan_of(scenario, changes, given_flags(), set_by_key)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = out or Path("reports") / f"{stamp}-capacity"
    console = Audience(stderr=as_json)
    with progress_on(console) as progress:
        command = repeat_command(sys.argv[1:])
        budget_s = seconds(budget, "--budget")
        order = Order(plan, budget_s, folder, keep, wanted, peak_per_s, command)
        result = study(order, existing, progress)
    if as_json:
        print_json(result_file(folder).read_bytes())
    else:
        print_capacity(result, console)
        console.print(f"\nStudy: {folder / 'index.html'}", soft_wrap=True, highlight=False)
    return result.exit_code


def seconds(text: str, flag: str) -> float:
    """A time such as 90s, 6m or 1h. Raises PlanError."""
    match = DURATION.fullmatch(text.strip())
    if not match or not float(match[1]):
        raise PlanError(f"{flag} {text!r}: write a time such as 90s, 6m or 1h")
    return float(match[1]) * SECONDS[match[2]]


def parts_of(text: str, modes: Sequence[str], *, sized: bool) -> tuple[str, ...]:
    """The parts of a study, the search always among them. Raises PlanError.

    `all` are those that there are for the modes.
    """
    named = [part.strip() for part in text.split(",") if part.strip()]
    for name in named:
        if name not in (*PARTS, "all"):
            known = (*PARTS, "all")
            raise PlanError(f"--parts: no part {name!r}{nearest(name, known)}; {', '.join(known)}")
    if "sizing" in named and not sized:
        raise PlanError("--parts sizing needs what to size for; give --forecast or --traffic")
    wanting = missing_of([find_mode(name) for name in modes])
    for part, why in wanting.items():
        if part in named:
            raise PlanError(f"--parts {part} {why}")
    chosen = [part for part in PARTS if part not in wanting] if "all" in named else named
    return tuple(
        part
        for part in PARTS
        if part == "search" or (part in chosen and part != "sizing") or (part == "sizing" and sized)
    )


def missing_of(modes: Sequence[Mode]) -> dict[str, str]:
    """The parts that there are not for these modes, and what each of them needs."""
    missing = {}
    if queue_of(modes) is None:
        missing["break-even"] = "compares direct with a queue; name one in --modes, such as ticket"
    if LOCK_MODE not in {mode.name for mode in modes}:
        missing["patience"] = f"is about a lock that is taken over; name {LOCK_MODE} in --modes"
    return missing


def require_settable(settings: dict[str, Any]) -> None:
    """Raises PlanError for a `--set` of what a study decides itself, or has a flag for."""
    for key in settings:
        if key in OF_FLAGS:
            raise PlanError(f"--set {key}: give {OF_FLAGS[key]} instead")
        if key in OF_THE_STUDY or (key.startswith("arrivals.") and key != READERS):
            raise PlanError(f"--set {key}: a study decides that itself; leave it away")


def plan_of(
    scenario: str, changes: dict[str, Any], given: set[str], settings: dict[str, Any]
) -> Plan:
    """The scenario as the flags have it, with the usual objectives if none were given.

    Raises PlanError.
    """
    plan = with_changes(read_plan(find_scenario(scenario)), changes, "flags")
    if plan.target.url:
        require_none_of_ours(given, settings)
    if "slo" not in given:
        plan = msgspec.structs.replace(plan, slo=usual_objectives(plan))
    return plan


def given_flags() -> set[str]:
    """The names of those that were given, to whichever value."""
    context = click.get_current_context()
    typed = ParameterSource.COMMANDLINE
    return {name for name in context.params if context.get_parameter_source(name) is typed}


def require_none_of_ours(given: set[str], settings: dict[str, Any]) -> None:
    """Raises PlanError for a flag or `--set` that says nothing of a target."""
    ours = [f"--{name}" for name in OUR_FLAGS if name in given]
    ours += [f"--set {key}" for key in settings if key.partition(".")[0] in OUR_TABLES]
    if ours:
        raise PlanError(
            f"{ours[0]}: the processes and services of a --target are its own; leave that flag away"
        )


def require_no_contradiction(changes: dict[str, Any], parts: Sequence[str]) -> None:
    """Raises PlanError where a flag holds still what a part varies."""
    held = {
        part: [key for key in VARIED.get(part, ()) if changes.get(key) is not None]
        for part in parts
    }
    for part, keys in held.items():
        if keys:
            raise PlanError(
                f"--parts {part} varies {keys[0]} itself; leave that flag away, or the part: "
                f"--parts {','.join(each for each in parts if not held[each])}"
            )


def forecast_of(text: str | None, flags: dict[str, Any]) -> float | None:
    """The peak in votes per second, from either flag. Raises PlanError."""
    if flags["traffic"] is not None:
        if text is not None:
            raise PlanError("--forecast and --traffic both say what to size for; give one")
        busiest_per_s = traffic_of(flags).busiest_per_s
        return require_sizable(busiest_per_s, f"--traffic {flags['traffic']}")
    if flags["match"] is not None or flags["scale"] is not None:
        raise PlanError("--match and --scale are for --traffic; name the file with it")
    if text is None:
        return None
    match = RATE.fullmatch(text.strip())
    if not match or not float(match[1]):
        raise PlanError(f"--forecast {text!r}: write votes per second, such as 800/s")
    return require_sizable(float(match[1]), "--forecast")


def require_sizable(peak_per_s: float, flag: str) -> float:
    """The forecast. Raises PlanError for more than there is a sizing for."""
    if peak_per_s > MOST_FORECAST_PER_S:
        raise PlanError(
            f"{flag}: {peak_per_s:,.0f} votes a second; "
            f"no more than {MOST_FORECAST_PER_S:,.0f} can be sized for"
        )
    return peak_per_s
