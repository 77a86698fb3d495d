"""Flags that more than one verb has."""

import math
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from harness.errors import PlanError
from harness.load.request import ALLOW_TARGET, Target
from harness.plan import host_of
from harness.services.targets import Existing

MASTER: Final = "127.0.0.1:5557"  # Locust's own port


def finite(_context: click.Context, _option: click.Parameter, number: float | None) -> float | None:
    """The callback of float options: click's ranges only compare, and so let `nan` pass."""
    if number is not None and not math.isfinite(number):
        raise click.BadParameter(f"{number} is no finite number.")
    return number


memcached = click.option(
    "--memcached",
    metavar="HOST:PORT,…",
    help="Use these memcached instead of private ones. A queue's keys are spread over all of them; "
    "mirrored takes the first two.",
)
database = click.option(
    "--database",
    metavar="URL",
    help="Use this database (mysql://user:password@host:port/name) instead of a private one.",
)
allow_target = click.option(
    "--allow-target",
    multiple=True,
    metavar="HOST",
    help="A host other than this machine that is yours to load; may be repeated.",
)

target = click.option(
    "--target",
    metavar="URL",
    help="Load this server instead of ours; docs/target.md says how its routes are given.",
)
ballots = click.option(
    "--ballots",
    metavar="SOURCE",
    help="Where that server's votes are in the end: a CSV file, or mysql://…?query=SELECT ….",
)

remote = click.option(
    "--remote", type=int, metavar="N", help="Have N `pollstorm worker`s play the load."
)
listen = click.option(
    "--listen", metavar="HOST:PORT", help="Where they come to  [default: 127.0.0.1:5557]"
)

Verb = TypeVar("Verb", bound=Callable[..., Any])

OF_THE_PLAN: Final = (
    click.option("--modes", metavar="A,B", help="Modes to drive, in this order."),
    click.option(
        "--duration",
        type=float,
        metavar="S",
        callback=finite,
        help="Seconds of load; the curve and the faults' times stretch with it.",
    ),
    click.option(
        "--peak",
        type=float,
        callback=finite,
        metavar="VOTES_PER_S",
        help="Rate at the spike's peak.",
    ),
    click.option(
        "--traffic",
        "--access-log",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Voters come as in this access log, or CSV of time and count; gzipped or not.",
    ),
    click.option("--match", metavar="REGEX", help="Of an access log, only requests like these."),
    click.option("--scale", type=float, metavar="X", help="So many times as much of the traffic."),
    click.option("--workers", type=int, metavar="N", help="Site processes."),
    click.option("--threads", type=int, metavar="N", help="Threads per site process."),
    click.option("--flushers", type=int, metavar="N", help="Flusher processes."),
    click.option(
        "--fault",
        "faults",
        multiple=True,
        metavar="'KIND@TIME …'",
        help="Trouble besides the scenario's; may be repeated. See docs/faults.md.",
    ),
    click.option("--no-faults", is_flag=True, help="Leave the scenario's own troubles away."),
    click.option("--repeat", type=int, metavar="N", help="Repetitions of each mode."),
    click.option("--slo", multiple=True, metavar="'p99<250ms'", help="Threshold; may be repeated."),
    click.option("--seed", type=int, metavar="N", help="Seed of arrivals, choices and voters."),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any key of the plan, as memcached.evict=false; may be repeated.",
    ),
    click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="The run folder."),
    click.option("--json", "as_json", is_flag=True, help="Print result.json instead of a table."),
)


def plan_options(verb: Verb) -> Verb:
    """The flags of whatever plays a plan. `changes_of` reads those that change it."""
    for option in reversed(OF_THE_PLAN):
        verb = option(verb)
    return verb


def changes_of(flags: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """What the flags change, by the plan's dotted keys; None where a flag was not given.

    `more`: what a verb's own flags change.
    Raises PlanError for a `--set` that cannot be read, or that another flag contradicts.
    """
    changes: dict[str, Any] = {
        "arrivals.peak_per_s": flags["peak"],
        "site.workers": flags["workers"],
        "site.threads": flags["threads"],
        "flusher.processes": flags["flushers"],
        "repeat": flags["repeat"],
        "seed": flags["seed"],
        "slo": list(flags["slo"]) or None,
        **more,
    }
    return set_besides(changes, flags["settings"])


def set_besides(changes: dict[str, Any], texts: Sequence[str]) -> dict[str, Any]:
    """The changes and those of `--set`. Raises PlanError where both change the same key."""
    settings = settings_of(texts)
    for key in settings:
        if changes.get(key) is not None:
            raise PlanError(f"--set {key}: another flag sets it too; leave one of them away")
    return changes | settings


def worker_changes(remote: int | None, listen: str | None) -> dict[str, Any]:
    """What `--remote` and `--listen` change in a plan. Raises PlanError."""
    if remote is None:
        if listen is not None:
            raise PlanError("--listen is for --remote N; say how many workers will come")
        return {}
    address = listen or MASTER
    host_of(address, "--listen")
    return {"voters.generators": remote, "voters.master": address}


def settings_of(texts: Sequence[str]) -> dict[str, Any]:
    """`KEY=VALUE` lines as changes of a plan: dotted key to value. Raises PlanError.

    A value is written as in TOML; what would be none there is text.
    """
    settings: dict[str, Any] = {}
    for text in texts:
        key, given, value = text.partition("=")
        key = key.strip()
        if not given or not all(part.strip() for part in key.split(".")):
            raise PlanError(f"--set {text!r}: write KEY=VALUE, for example memcached.evict=false")
        if key in settings:
            raise PlanError(f"--set {text!r}: {key} is given twice")
        settings[key] = _value(value.strip())
    return settings


def _value(text: str) -> Any:
    try:
        tables = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return tables["value"] if len(tables) == 1 else text


def target_changes(
    url: str | None, ballots: str | None, allowed: tuple[str, ...]
) -> dict[str, Any]:
    """What `--target` and `--ballots` change in a plan. Raises PlanError.

    A host that is allowed is so for the generators, too.
    """
    if url is None:
        if ballots is not None:
            raise PlanError("--ballots are those of a --target; name its address with it")
        return {}
    host = Target.from_url(url).host
    if host in allowed:
        os.environ[ALLOW_TARGET] = ",".join(allowed)
    return {"target.url": url, "target.ballots": ballots}


def existing_services(
    memcached: str | None, database: str | None, allow_target: tuple[str, ...]
) -> Existing:
    """What the three flags say. Raises PlanError for a host off loopback that was not allowed."""
    given = () if memcached is None else memcached.split(",")
    addresses = tuple(part.strip() for part in given)
    existing = Existing(addresses, database)
    existing.require_allowed(allow_target)
    if len(set(addresses)) < len(addresses):
        raise PlanError(f"--memcached {memcached}: names one twice; two queues would be one")
    return existing
