"""`pollstorm explain`: why votes were lost or doubled, or the life and death of one of them."""

from pathlib import Path
from typing import Final

import click
import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from harness.audit.certificate import UNKNOWN, Certificate
from harness.audit.certificates import life_of, read_certificates
from harness.audit.story import Event
from harness.errors import Exit, PlanError
from harness.run_folder import RunFolder, TrialFolder
from harness.vote import SEQUENCE_BITS, VOTE_ID, mint

EXAMPLES: Final = """\b
Examples:
  pollstorm explain reports/latest
  pollstorm explain reports/latest 0001000000000384 --mode classic
  pollstorm explain reports/latest 1:900

Exit codes: 0 explained, 2 no such run or vote, 3 some vote has no known cause."""

NUMBERS: Final = ("certain", "probable")
LEGEND: Final = """\
 * the vote's own life   >>> what killed it
Times are those of the answers; where CAS numbers say otherwise, theirs is the order."""
MARKS: Final = {"fatal": ">>>", "life": " * ", "": "   "}


@click.command(epilog=EXAMPLES, short_help="Why votes were lost, or one vote's life and death.")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("vote", required=False)
@click.option("--mode", metavar="NAME", help="Only this mode's trials (or one trial: classic.2).")
def explain(run: Path, vote: str | None, mode: str | None) -> int:
    """The causes of all lost, altered and doubled votes of RUN, with an example of each.

    VOTE is an id as in the report (16 hexadecimal digits), or GENERATOR:SEQUENCE; then that vote's
    own life and, if it had one, its death.
    """
    folder = RunFolder.open(run)
    trials = _trials(folder, mode)
    if vote is None:
        return _explain_all(run, trials)
    return _explain_one(trials, read_id(vote), vote)


def read_id(text: str) -> int:
    """A vote's id. Raises PlanError for what is none."""
    if VOTE_ID.fullmatch(text.lower()):
        return int(text, 16)
    generator, colon, sequence = text.partition(":")
    if colon and generator.isdecimal() and sequence.isdecimal():
        fits = int(generator) < 1 << 64 - SEQUENCE_BITS and int(sequence) < 1 << SEQUENCE_BITS
        if fits:
            return mint(int(generator), int(sequence))
    raise PlanError(f"{text!r} is no vote id; give 16 hexadecimal digits or GENERATOR:SEQUENCE")


def _trials(folder: RunFolder, mode: str | None) -> list[TrialFolder]:
    """Those of the mode, or the one of that name; without either all. Raises PlanError."""
    found = folder.trials()
    every = [trial for trials in found.values() for trial in trials]
    named = [trial for trial in every if trial.name == mode]
    chosen = found.get(mode, named) if mode else every
    if not chosen:
        names = ", ".join(trial.name for trial in every) or "none"
        raise PlanError(f"{folder.path} has no trial {mode or ''}; it has {names}")
    return chosen


def _kept(trial: TrialFolder) -> list[Certificate]:
    if not trial.certificates.is_file():
        raise PlanError(
            f"{trial.path} has no certificates; `pollstorm audit {trial.path.parent}` makes them, "
            "if a journal was kept"
        )
    return read_certificates(trial)


def _explain_all(run: Path, trials: list[TrialFolder]) -> int:
    console = Console()
    kept = {trial.name: _kept(trial) for trial in trials}
    for name, found in kept.items():
        if not found:
            console.print(f"{name}: no vote was lost, altered or doubled.")
            continue
        table = Table(title=name, title_justify="left", box=box.SIMPLE_HEAD)
        for heading in ("cause", "certain", "probable", "what happened, for example"):
            table.add_column(heading, justify="right" if heading in NUMBERS else "left")
        for cause in sorted({c.cause for c in found}):
            of = [c for c in found if c.cause == cause]
            certain = sum(c.certain for c in of)
            table.add_row(cause, f"{certain}", f"{len(of) - certain}", f"{of[0].why}")
        console.print(table)
        for cause in sorted({c.cause for c in found}):
            example = next(c for c in found if c.cause == cause)
            command = f"pollstorm explain {run} {example.vote:016x} --mode {name}"
            console.print(f"{cause}: {command}", highlight=False, soft_wrap=True)
    unexplained = any(c.cause == UNKNOWN for found in kept.values() for c in found)
    return Exit.INCONCLUSIVE if unexplained else Exit.OK


def _explain_one(trials: list[TrialFolder], vote: int, text: str) -> int:
    seen = False
    unexplained = False
    for trial in trials:
        certificates = [c for c in _kept(trial) if c.vote == vote]
        for certificate in certificates:
            seen = True
            unexplained |= certificate.cause == UNKNOWN
            events = msgspec.json.decode(certificate.story, type=list[Event])
            _tell(trial, vote, _verdict(certificate), events)
        if not certificates and (life := life_of(trial, vote)):
            seen = True
            _tell(trial, vote, life.fate, life.events)
    if not seen:
        names = ", ".join(trial.name for trial in trials)
        raise PlanError(
            f"no vote {text} in {names}; its id stands in the report and ledger.parquet"
        )
    return Exit.INCONCLUSIVE if unexplained else Exit.OK


def _verdict(certificate: Certificate) -> str:
    degree = "certain" if certificate.certain else "probable"
    lines = [f"{certificate.fate}: {certificate.cause} ({degree}). {certificate.why}"]
    if certificate.killer:
        who = certificate.killer_by
        at = f"{who} {certificate.killer_pid}/{certificate.killer_thread}"
        by = {
            "memcached": f"by memcached itself; {certificate.killer} found it out",
            "outside": f"by somebody outside this trial; {certificate.killer} shows it",
        }.get(who, f"by {certificate.killer} of {at}")
        if certificate.killer_grant:
            by += f", let in by a {certificate.killer_grant} grant"
        if certificate.killer_overlapped:
            by += f", beside the hold of {certificate.killer_overlapped}"
        lines.append(f"Killed {by}.")
    if certificate.fault:
        lines.append(f"Going on meanwhile: {certificate.fault}.")
    return "\n".join(lines)


def _tell(trial: TrialFolder, vote: int, verdict: str, events: list[Event]) -> None:
    """The verdict, then a line for each event; times from when the vote was due."""
    console = Console()
    sequence = vote & (1 << SEQUENCE_BITS) - 1
    head = f"Vote {vote:016x} ({vote >> SEQUENCE_BITS}:{sequence}) in {trial.name}"
    console.print(head, style="bold", highlight=False)
    console.print(verdict, highlight=False, soft_wrap=True)
    console.print()
    due_ns = next((e.at_ns for e in events if e.mark == "life"), 0)
    width = max((len(e.actor) for e in events), default=0)
    for event in events:
        at = f"{(event.at_ns - due_ns) / 1e6:+12.3f} ms"
        cas = f"  [cas {event.cas}]" if event.cas else ""
        line = f"{MARKS[event.mark]} {at}  {event.actor:<{width}}  {event.text}{cas}"
        console.print(
            line, style="bold red" if event.mark == "fatal" else None,
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
    console.print(f"\n{LEGEND}", highlight=False, markup=False)
    console.print()
