"""`pollstorm run`: one scenario through its modes."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from rich.console import Console

from harness.cli.options import (
    allow_target,
    ballots,
    changes_of,
    database,
    existing_services,
    listen,
    memcached,
    plan_options,
    remote,
    settings_of,
    target,
    target_changes,
    worker_changes,
)
from harness.cli.progress import Audience, print_json, progress_on
from harness.cli.traffic import traffic_of
from harness.credentials import masked_url, masked_values
from harness.errors import PlanError
from harness.fault import parse_fault
from harness.load.traffic import replaying
from harness.modes.mode import known_modes
from harness.plan import (
    PEAKED,
    Plan,
    find_scenario,
    known_scenarios,
    read_plan,
    with_changes,
)
from harness.report.table import print_result
from harness.result import RunResult
from harness.run import Destination
from harness.run import run as run_plan
from harness.run_folder import RunFolder

SET: Final = "--set="
KNOWN: Final = f"""\b
Scenarios: {", ".join(known_scenarios())}
Modes: {", ".join(known_modes())}
"""
EPILOG: Final = f"""{KNOWN}
\b
Examples:
  pollstorm run controversial-poll
  pollstorm run controversial-poll --modes direct,classic --peak 800 --repeat 3
  pollstorm run my-plan.toml --slo 'p99<250ms' --slo 'lost=0' --json
  pollstorm run controversial-poll --set memcached.daemons=3 --set memcached.rehash=true

A flag that is not given leaves the scenario's own value.
"""


@click.command(epilog=EPILOG)
@click.argument("scenario")
@plan_options
@remote
@listen
@memcached
@database
@allow_target
@target
@ballots
def run(
    scenario: str,
    out: Path | None,
    as_json: bool,
    remote: int | None,
    listen: str | None,
    memcached: str | None,
    database: str | None,
    allow_target: tuple[str, ...],
    target: str | None,
    ballots: str | None,
    **flags: Any,
) -> int:
    """Drive SCENARIO through its modes and account for every vote.

    SCENARIO is a name from locustfiles/ or a TOML file. The report lands in
    reports/<UTC>-<scenario>/, and reports/latest points to the newest one.
    """
    existing = existing_services(memcached, database, allow_target)
    more = {
        "memcached.daemons": len(existing.memcached) or None,
        **worker_changes(remote, listen),
        **target_changes(target, ballots, allow_target),
    }
    plan = plan_of(scenario, flags, changes_of(flags, more))
    console = Audience(stderr=as_json)
    with progress_on(console) as progress:
        command = repeat_command(sys.argv[1:])
        folder, result = run_plan(plan, Destination(out=out), existing, command, progress)
    return show(folder, result, console, as_json=as_json)


def show(folder: RunFolder, result: RunResult, console: Console, *, as_json: bool) -> int:
    """Print what was found, and where it lies; the exit code."""
    if as_json:
        print_json(folder.result_file.read_bytes())
    else:
        print_result(result, console)
        console.print(f"\nReport: {folder.page}", soft_wrap=True, highlight=False)
    return result.exit_code


def plan_of(scenario: str, flags: dict[str, Any], changes: dict[str, Any]) -> Plan:
    """The scenario's plan with the flags put in. Raises PlanError."""
    plan = read_plan(find_scenario(scenario))
    if flags["no_faults"]:
        plan = msgspec.structs.replace(plan, faults=())
    if flags["traffic"] is not None:
        plan = replaying(plan, traffic_of(flags))
    elif flags["match"] is not None or flags["scale"] is not None:
        raise PlanError("--match and --scale are for --traffic; name the file with it")
    plan = plan_with(plan, flags["duration"], flags["modes"], changes)
    return with_faults(plan, flags["faults"])


def plan_with(
    plan: Plan, duration: float | None, modes: str | None, changes: dict[str, Any]
) -> Plan:
    """The plan with the flags put in. Raises PlanError as a plan file would."""
    if duration is not None:
        if duration <= 0:
            raise PlanError(f"--duration {duration:g}: give seconds above 0")
        plan = plan.stretched(duration)
    if changes["arrivals.peak_per_s"] is not None and plan.arrivals.curve not in PEAKED:
        raise PlanError(f"--peak: {plan.scenario} is a {plan.arrivals.curve} and has no peak")
    if modes is not None:
        changes = {"modes": [mode.strip() for mode in modes.split(",") if mode.strip()], **changes}
    return with_changes(plan, changes, "flags")


def with_faults(plan: Plan, texts: tuple[str, ...]) -> Plan:
    """The plan with more troubles, at the times that are written. Raises PlanError."""
    if not texts:
        return plan
    own = [msgspec.to_builtins(fault) for fault in plan.faults]
    return with_changes(plan, {"faults": [*own, *map(parse_fault, texts)]}, "--fault")


def repeat_command(arguments: list[str]) -> str:
    """What repeats the run, as one can paste it: without its folder, which is never overwritten,
    and without secrets, because reports are shown around."""
    words = iter(arguments)
    kept = []
    for word in words:
        if word == "--out":
            next(words, None)
        elif not word.startswith("--out="):
            kept.append(_shown(word))
    return shlex.join(["pollstorm", *kept])


def _shown(word: str) -> str:
    """A word of the command line without secrets, which a `--set` of `target.headers` may hold."""
    setting = word.removeprefix(SET)
    key, given, _ = setting.partition("=")
    key = key.strip()
    if not given or not (key == "target" or key.startswith("target.headers")):
        return masked_url(word)
    value = settings_of([setting])[key]
    masked = masked_values(value)
    flag = SET if setting != word else ""
    return word if masked == value else f"{flag}{key}={_inline(masked)}"


def _inline(value: Any) -> str:
    """A value on one line, as in TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {_inline(v)}" for k, v in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)
