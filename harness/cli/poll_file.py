"""Polls in a TOML file, as `pollstorm polls import` reads them."""

import tomllib
from pathlib import Path
from typing import Any, Final

import msgspec

from harness.errors import PlanError
from harness.plan import readable
from harness.slo import nearest
from harness.vote import Poll, flaw

MOST_POLLS: Final = 1000  # in one file: no site shows more on its page
EXAMPLE: Final = "write a table [[polls]] with name, question and choices for each poll"


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One `[[polls]]` table."""

    name: str
    question: str
    choices: tuple[str, ...]
    once: bool = False

    def poll(self) -> Poll:
        return Poll(self.name, self.question, self.choices, self.once)


def read_polls(path: Path) -> list[Poll]:
    """The polls of a file. Raises PlanError that names the file, the poll and what is wrong."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PlanError(f"{path} is no TOML: {error}") from error
    for key in tables:
        if key != "polls":
            raise PlanError(f"{path}: no key {key!r}{nearest(key, ['polls'])}; {EXAMPLE}")
    entries = tables.get("polls")
    if not isinstance(entries, list) or not entries:
        raise PlanError(f"{path} has no polls; {EXAMPLE}")
    if len(entries) > MOST_POLLS:
        raise PlanError(f"{path} has {len(entries)} polls; give at most {MOST_POLLS} in one file")
    polls = [_read(entry, f"{path}: poll {n}") for n, entry in enumerate(entries, start=1)]
    first: dict[str, int] = {}
    for number, poll in enumerate(polls, start=1):
        if first.setdefault(poll.name, number) < number:
            raise PlanError(
                f"{path}: polls {first[poll.name]} and {number} are both called {poll.name!r}; "
                "give one of them another name"
            )
    return polls


def _read(entry: Any, where: str) -> Poll:
    if not isinstance(entry, dict):
        raise PlanError(f"{where} is no table; {EXAMPLE}")
    if isinstance(name := entry.get("name"), str):
        where = f"{where} ({name[:64]!r})"
    fields = msgspec.structs.fields(Entry)
    names = [field.name for field in fields]
    for key in entry:
        if key not in names:
            raise PlanError(f"{where}: no key {key!r}{nearest(key, names)}")
    for field in fields:
        if field.required and field.name not in entry:
            raise PlanError(f"{where} has no {field.name}; {EXAMPLE}")
    try:
        poll = msgspec.convert(entry, Entry).poll()
    except msgspec.ValidationError as error:
        raise PlanError(f"{where}: {readable(str(error))}") from error
    if wrong := flaw(poll):
        raise PlanError(f"{where}: {wrong}")
    return poll
