"""The report's page, and everything else that lies beside it in a run folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness import __version__
from harness.errors import PlanError
from harness.report import notation, sentences
from harness.report.deaths import Deaths, deaths
from harness.report.gallery import Shown, gallery
from harness.report.junit import junit
from harness.report.palette import css_variables
from harness.report.summary import summary
from harness.report.table import reasons
from harness.report.tables import tables, to_csv
from harness.result import RunResult
from harness.run_folder import RunFolder, write_atomically

TEMPLATES: Final = Path(__file__).parent / "templates"


def render(folder: RunFolder, result: RunResult) -> None:
    """Write index.html, summary.md, junit.xml, tables/*.csv and figures/*.png, each atomically."""
    folder.figures.mkdir(exist_ok=True)
    folder.tables.mkdir(exist_ok=True)
    shown = gallery(folder, result)
    for figure in shown:
        if figure.drawing:
            write_atomically(folder.figures / f"{figure.name}.png", figure.drawing.png)
    died = deaths(folder, result)
    for each in died:
        if each.drawing:
            write_atomically(folder.figures / f"intrusions-{each.trial}.png", each.drawing.png)
    for name, frame in tables(result).items():
        write_atomically(folder.tables / f"{name}.csv", to_csv(frame))
    write_atomically(folder.junit, junit(result))
    write_atomically(folder.summary, summary(result).encode())
    write_atomically(folder.page, page(folder, result, shown, died).encode())


def page(folder: RunFolder, result: RunResult, shown: list[Shown], died: list[Deaths]) -> str:
    """The whole page as HTML."""
    poll = _poll_of(folder)
    return fill(
        "report.html",
        result=result,
        figures=shown,
        deaths=died,
        reasons=reasons(result),
        poll=poll,
        environment=flat(_json_of(folder.environment_file)),
        plan=_text_of(folder.plan_file),
        has_repetitions=any(len(mode.trials) > 1 for mode in result.modes.values()),
    )


def fill(template: str, **values: Any) -> str:
    """A template with the report's words, numbers and colours at hand; all values are escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg"] = Markup
    return environment.get_template(template).render(
        say=sentences,
        write=notation,
        version=__version__,
        light=css_variables(dark=False),
        dark=css_variables(dark=True),
        **values,
    )


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested values as lines `a.b` → text."""
    lines: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines |= flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            lines[f"{prefix}{key}"] = ", ".join(str(inner) for inner in value)
        else:
            lines[f"{prefix}{key}"] = str(value)
    return lines


def _poll_of(folder: RunFolder) -> str:
    try:
        return folder.plan().poll.question
    except PlanError:
        return ""  # the plan's own section then shows the text as it stands


def _json_of(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
