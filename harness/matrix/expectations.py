"""The table of what each fault may do to the votes in each mode, written before it is tried.

A cell is one line of text:

    nothing                 no vote is lost, doubled, altered or counted against its refusal
    loses CAUSE …           in one of its trials at least, a vote is lost or doubled
    may-lose CAUSE …        either way

Whatever is lost or doubled must have died of one of the causes that the cell names. A mode that
the row does not name has no target for the fault.
"""

import tomllib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, get_args

import msgspec

from harness.errors import PlanError
from harness.fault import parse_fault
from harness.modes.mode import known_modes
from harness.plan import Plan, plan_from
from harness.slo import nearest

TABLE: Final = Path(__file__).with_name("expectations.toml")
Word = Literal["nothing", "loses", "may-lose"]
WORDS: Final[tuple[str, ...]] = get_args(Word)


class Expectation(NamedTuple):
    """What may become of the votes in one cell."""

    word: Word
    causes: tuple[str, ...] = ()  # of which those may die that die

    def __str__(self) -> str:
        return " ".join((self.word, *self.causes))


class Row(NamedTuple):
    """One fault, and what is expected of it in each mode that has its target."""

    name: str
    why: str  # a sentence: what happens, and why that is expected
    plan: Plan
    expects: Mapping[str, Expectation]  # by mode, in the order of the plan's modes
    must_hit: bool = True  # whether a trial in which a fault missed tells nothing


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    plan: dict[str, Any]
    row: list[dict[str, Any]]


def base_plan(path: Path = TABLE) -> Plan:
    """What the plans of all rows have in common. Raises PlanError."""
    return plan_from(_read(path).plan, path.name)


def read_table(path: Path = TABLE, *, repeat: int | None = None) -> tuple[Row, ...]:
    """All rows, with another number of trials if wished. Raises PlanError that names the row."""
    table = _read(path)
    base = table.plan | ({} if repeat is None else {"repeat": repeat})
    rows = tuple(_row(dict(each), base, path.name) for each in table.row)
    names = [row.name for row in rows]
    for name in names:
        if names.count(name) > 1:
            raise PlanError(f"{path.name}: row {name!r} stands there twice")
    return rows


def modes_of(rows: Iterable[Row]) -> tuple[str, ...]:
    """All modes of which the rows expect something, in the order of their first."""
    return tuple(dict.fromkeys(mode for row in rows for mode in row.expects))


def chosen(rows: tuple[Row, ...], only: tuple[str, ...], modes: tuple[str, ...]) -> tuple[Row, ...]:
    """The rows whose name fits one of the patterns, with those modes only; empty means all.

    Raises PlanError when a pattern fits no row, a mode is in none, or nothing is left.
    """
    in_table = modes_of(rows)
    for mode in modes:
        if mode not in in_table:
            raise PlanError(
                f"--modes {mode}: no row expects anything of it{nearest(mode, in_table)}; "
                f"there are {', '.join(in_table)}"
            )
    names = [row.name for row in rows]
    for pattern in only:
        if not any(fnmatch(name, pattern) for name in names):
            known = nearest(pattern, names) or f"; there are {', '.join(names)}"
            raise PlanError(f"--only {pattern}: no such row{known}")
    kept = []
    for row in rows:
        if only and not any(fnmatch(row.name, pattern) for pattern in only):
            continue
        expects = {m: e for m, e in row.expects.items() if not modes or m in modes}
        if expects:
            plan = msgspec.structs.replace(row.plan, modes=tuple(expects))
            kept.append(row._replace(plan=plan, expects=expects))
    if not kept:
        raise PlanError(f"none of the chosen rows has a target in {', '.join(modes)}")
    return tuple(kept)


def _read(path: Path) -> _Table:
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _Table)
    except (OSError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise PlanError(f"{path.name}: {error}") from error


def _row(table: dict[str, Any], base: dict[str, Any], where: str) -> Row:
    name = str(table.pop("name", ""))
    where = f"{where}: row {name!r}"
    why = str(table.pop("why", ""))
    if not name or not why:
        raise PlanError(f"{where} needs a name, and a sentence why")
    faults = [parse_fault(text) for text in table.pop("faults", ())]
    settings = table.pop("plan", {})
    expects = {mode: _expectation(text, f"{where}, {mode}") for mode, text in table.items()}
    for mode in expects:
        if mode not in known_modes():
            raise PlanError(f"{where}: no mode {mode!r}{nearest(mode, known_modes())}")
    tables = _merged(base, settings) | {"modes": list(expects), "faults": faults}
    return Row(name, why, plan_from(tables, where), expects)


def _expectation(text: Any, where: str) -> Expectation:
    word, *causes = str(text).split() or [""]
    if word not in WORDS:
        raise PlanError(f"{where}: {word!r}{nearest(word, WORDS)}; write {', '.join(WORDS)}")
    if (word == "nothing") == bool(causes):
        raise PlanError(f"{where}: {text!r}: only what may be lost has causes, and needs them")
    return Expectation(word, tuple(causes))  # type: ignore[arg-type]


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged
