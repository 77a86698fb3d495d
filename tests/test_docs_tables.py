"""Tables of the documentation that list what the code has, and the sample of a run: nothing is
missing, nothing is left over.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from harness.plan import Plan, plan_from
from harness.result import RunResult
from harness.slo import COMPARISONS, SLO_FIGURES

DOCS = Path(__file__).parent.parent / "docs"
NEEDED = "needed"  # stands where a key has no default


def defaults() -> Iterator[tuple[str, Any]]:
    """Each key of a plan as `--set` takes it, and what it is if it is left out."""
    whole = msgspec.json.decode(msgspec.json.encode(Plan(scenario=NEEDED)))
    for name, value in whole.items():
        if isinstance(getattr(Plan(scenario=NEEDED), name), msgspec.Struct):
            yield from ((f"{name}.{key}", inner) for key, inner in value.items())
        else:
            yield name, value


def value_of(cell: str) -> Any:
    text = cell.strip(" `")
    return text if text == NEEDED else tomllib.loads(f"value = {text}")["value"]


def test_the_page_of_the_plan_has_all_keys_with_their_defaults_and_no_others() -> None:
    page = (DOCS / "plan.md").read_text()
    rows = re.findall(r"^\| `([a-z_.]+)` \|([^|]*)\|[^|]*\|[^|]+\|$", page, re.MULTILINE)
    said = {key: value_of(cell) for key, cell in rows}
    assert len(said) == len(rows)
    assert said == dict(defaults())


def test_the_plan_on_its_page_can_be_played() -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```", (DOCS / "plan.md").read_text(), re.M | re.S)
    assert plan_from(tomllib.loads(example), "docs/plan.md").faults


def test_the_page_of_the_result_has_all_figures_and_operators_of_objectives() -> None:
    page = (DOCS / "result.md").read_text().partition("An objective is")[2]
    rows = re.findall(r"^\| (`.*?) \| (.*?) \| .* \|$", page, re.MULTILINE)
    said = [(figure, where) for cell, where in rows for figure in re.findall(r"`(\w+)`", cell)]
    assert sorted(figure for figure, _ in said) == sorted(SLO_FIGURES)
    assert [figure for figure, where in said if f"`{SLO_FIGURES[figure]}`" not in where] == []
    (operators,) = re.findall(r"^The operators are (.*?)\.", page, re.MULTILINE)
    assert re.findall(r"`(.*?)`", operators) == list(COMPARISONS)


def test_the_sample_of_a_run_has_all_that_a_run_writes_today() -> None:
    sample = DOCS.parent / "reports" / "sample"
    plan = (sample / "plan.toml").read_text()
    assert plan_from(tomllib.loads(plan), "the sample").to_toml() == plan
    written = (sample / "result.json").read_bytes()
    result = msgspec.json.decode(written, type=RunResult)
    assert msgspec.json.decode(msgspec.json.encode(result)) == msgspec.json.decode(written)
