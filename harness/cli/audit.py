"""`pollstorm audit`: read the histories again and say what they prove."""

from pathlib import Path

import click
import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from harness.audit.accounts import BALLOTS_NEED, LEDGER_NEEDS, settle_files
from harness.audit.examination import audit_again
from harness.audit.once import NEEDS
from harness.audit.verdict import judge_votes, rule_kept
from harness.errors import Exit, PlanError
from harness.history.store import columns, reading
from harness.report import sentences
from harness.report.table import print_result
from harness.result import Accounts
from harness.run_folder import RunFolder, TrialFacts

EXAMPLES = """\b
Examples:
  pollstorm audit reports/latest
  pollstorm audit reports/latest --json | jq .modes.classic.accounts
  pollstorm audit --ledger ledger.parquet --ballots ballots.parquet

Exit codes: 0 nothing promised is broken, 3 nothing proven or measurement invalid, 99 a promise
or threshold broken."""


@click.command(epilog=EXAMPLES, short_help="Account for every vote of a run again.")
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--ledger", type=click.Path(path_type=Path), help="A ledger from elsewhere.")
@click.option("--ballots", type=click.Path(path_type=Path), help="The ballots that belong to it.")
@click.option(
    "--rejections",
    type=click.Path(path_type=Path),
    help="Those of a once-only poll from elsewhere.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def audit(
    run: Path | None,
    ledger: Path | None,
    ballots: Path | None,
    rejections: Path | None,
    as_json: bool,
) -> int:
    """Audit a run folder again and rewrite its result.json; or audit two files from elsewhere.

    RUN is a folder such as reports/latest. From elsewhere are Parquet files: a ledger with the
    columns vote, outcome (0 unknown, 1 acknowledged, 2 refused) and choice, one row per attempt;
    ballots with vote, choice and, if known, deliveries. All ballots are taken to be drained. With
    rejections (vote, poll, voter) the poll counts each voter once at most, and ballots have to name
    poll and voter too.
    """
    if run is not None and ledger is ballots is rejections is None:
        return _audit_folder(RunFolder.open(run), as_json)
    if run is None and ledger is not None and ballots is not None:
        return _audit_files(ledger, ballots, rejections, as_json)
    raise PlanError("give a run folder, or both --ledger and --ballots")


def _audit_folder(folder: RunFolder, as_json: bool) -> int:
    result = audit_again(folder)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(result)))
        return result.exit_code
    console = Console()
    print_result(result, console)
    console.print()
    console.print(accounts_table({name: mode.accounts for name, mode in result.modes.items()}))
    return result.exit_code


def _audit_files(ledger: Path, ballots: Path, rejections: Path | None, as_json: bool) -> int:
    facts = TrialFacts(
        mode="elsewhere",
        promises=False,
        planned=None,
        once=rejections is not None,
        load_start_ns=0,
        duration_s=0.0,
        drained=True,
        partial=False,
    )
    _require_given(ledger, ballots, rejections)
    accounts = settle_files(ledger, ballots, facts, rejections)
    judgement = judge_votes(accounts, facts)
    overvoted = rule_kept(facts, accounts) is False
    if as_json:
        rule = {"rule_kept": not overvoted} if facts.once else {}
        found = {"verdict": judgement._asdict(), "accounts": accounts} | rule
        click.echo(msgspec.json.format(msgspec.json.encode(found)))
    else:
        console = Console()
        console.print(accounts_table({"votes": accounts}))
        console.print(" ".join((f"Votes: {judgement.votes}.", *judgement.reasons)))
        if overvoted:
            console.print(f"Voters counted more than once: {accounts.overvotes:,}.")
    if overvoted:
        return Exit.BROKEN_PROMISE
    codes = {"kept": Exit.OK, "lost": Exit.BROKEN_PROMISE, "unknown": Exit.INCONCLUSIVE}
    return codes[judgement.votes]


def _require_given(ledger: Path, ballots: Path, rejections: Path | None) -> None:
    """Raises PlanError when a file is missing or is not of the kind that its option asks for."""
    given = [("--ledger", ledger, LEDGER_NEEDS), ("--ballots", ballots, BALLOTS_NEED)]
    if rejections is not None:
        given[1] = ("--ballots", ballots, BALLOTS_NEED | NEEDS)
        given.append(("--rejections", rejections, NEEDS))
    has: dict[Path, set[str]] = {}
    for option, path, _ in given:
        if not path.is_file():
            raise PlanError(f"{option} {path} is no file; give a Parquet file")
        with reading(path) as connection:
            has[path] = columns(connection, path)
    swapped = has[ballots] >= LEDGER_NEEDS and has[ledger] >= BALLOTS_NEED
    for option, path, needed in given:
        if missing := sorted(needed - has[path]):
            hint = f"it needs {', '.join(sorted(needed, reverse=True))}, see docs/audit.md"
            if swapped:
                hint = "give --ledger and --ballots the other way round"
            raise PlanError(f"{option} {path} has no column {', '.join(missing)}; {hint}")


def accounts_table(accounts: dict[str, Accounts]) -> Table:
    """A row per account, a column per mode; plain when the output is no terminal.

    Those of once-only polls alone are left out of any other.
    """
    once = any(each.voters_counted or each.voters for each in accounts.values())
    table = Table(title="accounts (votes)", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("")
    for name in accounts:
        table.add_column(name, justify="right")
    for field in Accounts.__struct_fields__:
        if field in sentences.ONCE_ONLY and not once:
            continue
        table.add_row(field, *(f"{getattr(a, field):,}" for a in accounts.values()))
    return table
