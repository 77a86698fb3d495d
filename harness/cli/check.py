"""`pollstorm check`: is this version slower or lossier than that one?"""

import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Final

import click
import msgspec
from click.core import ParameterSource
from rich.console import Console
from rich.table import Table

from harness.cli.options import finite
from harness.cli.progress import Audience, print_json
from harness.cli.run import repeat_command
from harness.errors import PlanError, PollstormError
from harness.gate import history
from harness.gate.check import COUNTED, MARGINS, Order, check_counts, starts_of
from harness.gate.check import check as check_versions
from harness.gate.duet import SIDES
from harness.gate.outcome import SCHEMA_VERSION, CheckResult, Side
from harness.gate.outputs import annotations, junit, markdown, reasons, rows, sentence
from harness.gate.versions import checked_out, working_copy
from harness.modes.mode import find_mode
from harness.run_folder import write_atomically
from harness.services.interruption import interruptible
from harness.services.processes import Supervisor
from harness.slo import nearest

MARGIN: Final = re.compile(r"([a-z0-9_]+)=(\d+(?:\.\d+)?)(%?)")
STEP_SUMMARY: Final = "GITHUB_STEP_SUMMARY"
ANNOTATED: Final = "GITHUB_ACTIONS"
OF_THE_DUET: Final = ("pairs", "rate", "seed")  # flags that say nothing of counts
FILES: Final = ("check.json", "junit.xml", "summary.md")
STYLES: Final = {"passed": "green", "failed": "red", "inconclusive": "yellow"}
EPILOG: Final = """\b
Examples:
  pollstorm check --against main
  pollstorm check --against HEAD~1 --modes direct,ticket --margin p50=3%
  pollstorm check --calibrate
  pollstorm check --baseline main.json

Exit codes: 0 no worse, 99 worse, 3 undecided. docs/check.md says how it decides.
"""


@click.command(epilog=EPILOG, short_help="Is this version slower or lossier than that one?")
@click.option("--against", metavar="GIT_REF", help="Commit, branch or tag to compare with.")
@click.option(
    "--baseline", type=click.Path(path_type=Path), metavar="FILE",
    help="Instead: the counts in an earlier check.json. Times are not compared with stored ones.",
)  # fmt: skip
@click.option("--calibrate", is_flag=True, help="Instead: this version against itself.")
@click.option("--modes", default="direct,ticket", show_default=True, metavar="A,B")
@click.option(
    "--pairs", type=click.IntRange(8, 1000), default=40, show_default=True, metavar="N",
    help="Slices of 0.8 s, of both versions at once, dealt out to their starts.",
)  # fmt: skip
@click.option(
    "--rate", type=click.FloatRange(10, 10_000), default=200.0, show_default=True,
    metavar="VOTES_PER_S", callback=finite, help="For each version; well below what it can take.",
)  # fmt: skip
@click.option(
    "--margin", "margins", multiple=True, metavar="p50=5%,cpu=5%",
    help="How much worse is put up with; counts take numbers, as sql_statements=1.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, metavar="N")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("reports/check"), show_default=True,
    metavar="DIR", help="For check.json, junit.xml, summary.md and logs; replaced each time.",
)  # fmt: skip
@click.option(
    "--history", "history_file", type=click.Path(path_type=Path), metavar="FILE",
    help="Append the check here, a line of JSON; `pollstorm report FILE` draws the trend.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print check.json instead of a table.")
def check(
    against: str | None,
    baseline: Path | None,
    calibrate: bool,
    modes: str,
    pairs: int,
    rate: float,
    margins: tuple[str, ...],
    seed: int,
    out: Path,
    history_file: Path | None,
    as_json: bool,
) -> int:
    """Compare this version with another: exact counts first, then both at once, side by side."""
    if sum((against is not None, baseline is not None, calibrate)) != 1:
        raise PlanError("give one of --against GIT_REF, --baseline FILE and --calibrate")
    wanted = list(dict.fromkeys(name.strip() for name in modes.split(",") if name.strip()))
    for name in wanted:
        find_mode(name)
    if not wanted:
        raise PlanError("--modes: name at least one, for example direct")
    order = Order(wanted, pairs, rate, margins_of(margins), seed, starts_of(wanted))
    if baseline:
        _require_counts_alone(margins)
    stored = _stored(baseline, wanted, out) if baseline else None
    console, begun_s = Audience(stderr=as_json), monotonic()
    started_utc = datetime.now(UTC).isoformat(timespec="seconds")
    candidate = working_copy()
    if history_file:
        history.require_writable(history_file)
    logs = _logs(out)

    def told(what: str) -> None:
        console.print(f"[dim]{what}[/]", highlight=False, soft_wrap=True)

    here = Side(name=candidate.name, commit=candidate.commit)
    result = CheckResult(
        schema_version=SCHEMA_VERSION,
        command=repeat_command(sys.argv[1:]),
        started_utc=started_utc,
        took_s=0.0,
        baseline=stored.candidate if stored else here,
        candidate=here,
        modes={},
    )
    stopped: PollstormError | OSError | None = None
    try:
        with interruptible(), Supervisor() as supervisor:
            if stored:
                growing = check_counts(stored, candidate, order, supervisor, logs, told)
            else:
                before = checked_out(against, supervisor) if against is not None else candidate
                side = Side(name=before.name, commit=before.commit)
                result = msgspec.structs.replace(result, baseline=side)
                growing = check_versions((before, candidate), order, supervisor, logs, told)
            for known in growing:
                result = msgspec.structs.replace(result, modes=known)
    except PlanError:
        raise  # nothing was begun
    except (PollstormError, OSError) as error:
        stopped = error
    took_s = round(monotonic() - begun_s, 1)
    result = msgspec.structs.replace(result, took_s=took_s, stopped_by=_said(stopped))
    unwritten = _write(out, result)
    _tell(result, console, as_json=as_json)
    _publish(result)
    if unwritten:  # a disk that has filled up; the verdict does not hang on that
        click.echo(f"pollstorm: --out {out}: {unwritten.strerror}; nothing is kept there", err=True)
    elif not as_json:
        console.print(f"\nCheck: {out}", soft_wrap=True, highlight=False)
    if stopped:
        kind = type(stopped) if isinstance(stopped, PollstormError) else PollstormError
        kept = "" if unwritten else f"; what is known so far is in {out}"
        raise kind(f"{_said(stopped)}{kept}") from stopped
    if history_file:
        try:
            history.append(history_file, result)
        except PlanError as error:  # likewise
            click.echo(f"pollstorm: {error}", err=True)
    return result.exit_code


def margins_of(texts: tuple[str, ...]) -> dict[str, float]:
    """`p50=5%,cpu=3%` on top of the usual ones. Raises PlanError."""
    return MARGINS | margins_given(texts)


def margins_given(texts: tuple[str, ...]) -> dict[str, float]:
    """`p50=5%,cpu=3%`. Raises PlanError."""
    margins: dict[str, float] = {}
    for text in (part.strip() for each in texts for part in each.split(",") if part.strip()):
        match = MARGIN.fullmatch(text)
        if not match:
            raise PlanError(f"--margin {text!r}: write FIGURE=NUMBER, for example p50=5%")
        name, number, percent = match.groups()
        if name not in MARGINS:
            raise PlanError(
                f"--margin {text!r}: no figure {name!r}{nearest(name, MARGINS)}; "
                f"known: {', '.join(MARGINS)}"
            )
        is_share = MARGINS[name] > 0
        if is_share != bool(percent):
            form = "a percentage, as 5%" if is_share else "a number, as 1"
            raise PlanError(f"--margin {text!r}: {name} takes {form}")
        margins[name] = float(number) / (100 if percent else 1)
    return margins


def print_check(result: CheckResult, console: Console) -> None:
    """A line per figure, then the verdict and its reasons."""
    table = Table(box=None, header_style="bold", pad_edge=False, collapse_padding=True)
    table.add_column("figure", no_wrap=True)
    for name in ("baseline", "candidate", "change", "margin"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for mode, found in result.modes.items():
        table.add_row(f"[bold]{mode}[/]")
        for figure, before, now, change, *others in rows(found):
            below = change.replace(" (", "\n(")  # so that 80 columns are enough
            table.add_row(f"  {figure}", before, now, below, *others)
    console.print(table)
    found_at = [
        f"{mode} {name} {timed.detectable:.1%}"
        for mode, check in result.modes.items()
        for name, timed in check.timed.items()
        if timed.decides
    ]
    if found_at:
        console.print(
            f"\nWould have been found, 19 times in 20: {', '.join(found_at)}.", soft_wrap=True
        )
    style = STYLES[result.verdict]
    console.print(
        f"\n[bold {style}]{result.verdict.capitalize()}.[/] {sentence(result)}", soft_wrap=True
    )
    for about, reason, _ in reasons(result):
        console.print(f"  {about}: {reason}", soft_wrap=True, highlight=False)


def _said(error: Exception | None) -> str:
    """What ended the check; empty if nothing did."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error or "")


def _write(out: Path, result: CheckResult) -> OSError | None:
    """Keep it in all forms; the error if that cannot be."""
    try:
        contents = (_encoded(result), junit(result), markdown(result).encode())
        for name, content in zip(FILES, contents, strict=True):
            write_atomically(out / name, content)
    except OSError as error:
        return error
    return None


def _encoded(result: CheckResult) -> bytes:
    return msgspec.json.format(msgspec.json.encode(result))


def _tell(result: CheckResult, console: Console, *, as_json: bool) -> None:
    if as_json:
        print_json(_encoded(result))
    else:
        print_check(result, console)


def _publish(result: CheckResult) -> None:
    """To the workflow that runs it, if one does. The verdict does not hang on that."""
    if path := os.environ.get(STEP_SUMMARY):
        try:
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(markdown(result))
        except OSError as error:
            click.echo(f"pollstorm: {STEP_SUMMARY} {path}: {error.strerror}", err=True)
    if os.environ.get(ANNOTATED):
        for line in annotations(result):
            click.echo(line, err=True)


def _logs(out: Path) -> Path:
    """A folder for logs, with nothing of an earlier check in it or beside it. Raises PlanError."""
    logs = out / "logs"
    try:
        logs.mkdir(parents=True, exist_ok=True)
        for old in (*logs.glob("*.log"), *(out / name for name in FILES)):
            old.unlink(missing_ok=True)
    except OSError as error:
        raise PlanError(f"--out {out}: {error.strerror}; name a folder of yours") from error
    return logs


def _require_counts_alone(margins: tuple[str, ...]) -> None:
    """Raises PlanError for a flag that would guard times, of which a baseline has none."""
    context = click.get_current_context()
    given = [
        f"--{name}"
        for name in OF_THE_DUET
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    given += [f"--margin {name}" for name in margins_given(margins) if name not in COUNTED]
    if given:
        raise PlanError(
            f"{given[0]}: with --baseline only counts are compared; leave it away, "
            "or compare times by --against GIT_REF"
        )


def _stored(path: Path, modes: list[str], out: Path) -> CheckResult:
    """The earlier check. Raises PlanError when it cannot be compared with."""
    if path.resolve().is_relative_to(out.resolve()):
        raise PlanError(
            f"--baseline {path} lies in --out {out}, which is written anew: keep a copy of it "
            "elsewhere, or name another --out"
        )
    try:
        stored = CheckResult.from_json(path.read_bytes())
    except OSError as error:
        raise PlanError(f"--baseline {path}: {error.strerror}") from error
    except ValueError as error:
        raise PlanError(f"--baseline {path} is no check.json: {error}") from error
    for mode in modes:
        if mode not in stored.modes:
            known = ", ".join(stored.modes) or "none: it was stopped"
            raise PlanError(f"--baseline {path}: that check has no mode {mode}; it has {known}")
        found = stored.modes[mode]
        if found.counts.keys() != set(COUNTED) or not found.votes.keys() >= set(SIDES):
            raise PlanError(f"--baseline {path}: its counts of {mode} are not all there")
    return stored
