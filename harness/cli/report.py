"""`pollstorm report`: make a run's report again, or put several runs side by side."""

from datetime import UTC, datetime
from pathlib import Path

import click

from harness.audit.examination import audit_again
from harness.errors import PlanError
from harness.report.comparison import compare
from harness.report.page import render
from harness.run_folder import RunFolder

EXAMPLES = """\b
Examples:
  pollstorm report reports/latest
  pollstorm report reports/before reports/after --out reports/change
"""


@click.command(
    epilog=EXAMPLES, short_help="Render the report again, one run or several side by side."
)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="New folder for the page of several runs  [default: reports/comparison-<UTC>]",
)
def report(runs: tuple[Path, ...], out: Path | None) -> None:
    """Render the report of one RUN again in place, from its result.json and Parquet files.

    Several RUNs make one page that shows them side by side. The page's path is printed.
    """
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
