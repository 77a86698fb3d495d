"""`pollstorm report`: make a run's report again, or put several runs side by side."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from harness.audit.examination import audit_again
from harness.errors import PlanError
from harness.gate import history
from harness.gate.trend import write_trend
from harness.report.comparison import compare
from harness.report.page import render
from harness.run_folder import RunFolder

EXAMPLES = """\b
Examples:
  pollstorm report reports/latest
  pollstorm report reports/before reports/after --out reports/change
  pollstorm report checks.jsonl
"""
HISTORY: Final = ".jsonl"


@click.command(
    epilog=EXAMPLES, short_help="Render the report again, one run or several side by side."
)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="New folder for the page of several runs, or of a history  "
    "[default: reports/comparison-<UTC>, reports/trend-<UTC>]",
)
def report(runs: tuple[Path, ...], out: Path | None) -> None:
    """Render the report of one RUN again in place, from its result.json and Parquet files.

    Several RUNs make one page that shows them side by side. A history of `pollstorm check`, which
    is a .jsonl file, becomes a page of its trend. The page's path is printed.
    """
    if any(path.suffix == HISTORY for path in runs):
        click.echo(trend_of(runs, out))
        return
    folders = [RunFolder.open(path) for path in runs]
    if len(folders) > 1:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        click.echo(compare(folders, out or Path("reports") / f"comparison-{stamp}"))
        return
    if out is not None:
        raise PlanError("--out is for several runs; one run's report is rendered where it lies")
    folder = folders[0]
    if folder.result_file.exists() and not folder.was_cut_short():
        result = folder.result()
    else:
        click.echo(f"the run in {folder.path} was cut short; auditing what it left", err=True)
        result = audit_again(folder)
    render(folder, result)
    click.echo(folder.page)


def trend_of(files: tuple[Path, ...], out: Path | None) -> Path:
    """The page of a history of checks. Raises PlanError when that is not all that was given."""
    if len(files) > 1:
        raise PlanError("a history of checks is one file; give it alone")
    checks = history.read(files[0])
    if not checks:
        raise PlanError(f"{files[0]} holds no check yet; `pollstorm check --history` appends them")
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = out or Path("reports") / f"trend-{stamp}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise PlanError(f"--out {folder}: {error.strerror}; name a new folder") from error
    return write_trend(checks, folder / "index.html")
