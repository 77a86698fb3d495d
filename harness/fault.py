"""An injected trouble as it is planned: what kinds there are, and what can be said of each.

In TOML it is a table, on the command line one line of text, `KIND@TIME key=value …`:

    [[faults]]                        --fault 'pause@7.5s target=lock-holder for=1.2s'
    kind = "pause"
    at_s = 7.5
    target = "lock-holder"
    for_s = 1.2

What a fault does stands in `harness/faults/`, a file for each kind.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from harness.errors import PlanError
from harness.slo import nearest

MOST_S: Final = 1e9
Seconds = Annotated[float, Meta(ge=0, le=MOST_S)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One trouble. What is not given is empty; `KINDS` says what a kind can have."""

    kind: str
    at_s: Seconds  # after the load's start; one armed at a step is met soon after
    target: str = ""  # empty: the kind's first
    for_s: Seconds = 0.0  # how long it lasts
    step: str = ""  # of the target's protocol; empty: blindly, where the target has no own step
    delay_s: Seconds | None = None  # None: the kind's own
    jitter_s: Seconds = 0.0  # up to so much more or less than the delay
    share: Share | None = None  # of the requests; None: all
    direction: Literal["", "to", "from"] = ""  # seen from the client; empty: to the server
    modes: tuple[str, ...] = ()  # only in these; empty: in all modes that have the target


class Kind(NamedTuple):
    """What can be said of a fault of one kind."""

    targets: tuple[str, ...]  # the first is meant when none is named
    lasts: Literal["always", "maybe", "never"]
    steps: bool = False  # whether it can be armed at a step of its target
    options: tuple[str, ...] = ()  # further fields that it heeds


VOTERS: Final = "voters"
PROCESSES: Final = ("lock-holder", "site", "flusher", "memcached", "memcached-2", "mariadb")

SERVERS: Final = ("memcached", "memcached-2", "mariadb")

KINDS: Final[dict[str, Kind]] = {
    "kill": Kind(PROCESSES, "maybe", steps=True),  # it lasts until there is another process
    "pause": Kind(PROCESSES, "always", steps=True),
    "wipe": Kind(("memcached", "memcached-2"), "never"),
    "squeeze": Kind(("memcached", "memcached-2"), "always"),
    "latency": Kind(SERVERS, "always", options=("delay_s", "jitter_s")),
    "stall": Kind(SERVERS, "always"),
    "reset": Kind(SERVERS, "maybe"),  # it lasts until new connections are let in
    "drop-request": Kind(SERVERS, "always", options=("share",)),
    "drop-reply": Kind(SERVERS, "always", options=("share",)),
    "cut": Kind(SERVERS, "always", options=("direction",)),
    "connections": Kind(("mariadb",), "always"),
    "lock-table": Kind(("mariadb",), "always"),
    "deadlock": Kind(("mariadb",), "always"),
    "slow-commit": Kind(("mariadb",), "always", options=("delay_s",)),
    "full-disk": Kind(("mariadb",), "always"),
    "give-up": Kind((VOTERS,), "always", options=("delay_s",)),
    "revote": Kind((VOTERS,), "always", options=("delay_s",)),
    "slow-read": Kind((VOTERS,), "always", options=("delay_s",)),
}

FAULT_KINDS: Final = tuple(KINDS)

BETWEEN: Final = ("latency", "stall", "reset", "drop-request", "drop-reply", "cut")
"""Kinds that happen on the way to their target: it is reached by a proxy from the start."""

STEPS: Final[dict[str, tuple[str, ...]]] = {
    "lock-holder": ("before-slot",),
    "flusher": (
        "before-read",
        "between-read-and-reset",
        "between-reset-and-insert",
        "between-insert-and-commit",
        "between-commit-and-delete",
    ),
}
"""By target: at which steps of its protocol a fault can be armed."""

OPTIONS: Final[tuple[str, ...]] = ("delay_s", "jitter_s", "share", "direction")
"""Fields that only some kinds have."""

AMOUNTS: Final = ("delay_s", "share")
"""Of these: a fault with none of it would be no fault."""

_FLAG: Final = re.compile(r"([a-z-]+)@(\S+)((?:\s+\S+=\S+)*)\s*")
_WORDS: Final = {
    "for": "for_s",
    "at": "step",
    "target": "target",
    "modes": "modes",
    "delay": "delay_s",
    "jitter": "jitter_s",
}
"""On the command line: the key that is written, and the field that is meant."""
_UNITS: Final = {"s": 1.0, "ms": 0.001, "us": 1e-6, "": 1.0}
_TIME: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(s|ms|us|)")


def target_of(fault: Fault) -> str:
    """The target that is meant."""
    return fault.target or KINDS[fault.kind].targets[0]


def amounts_to(kind: str, target: str) -> str:
    """The kind of fault that it is for what lies in memcached: a killed one has forgotten it all,
    as after a wipe. A mode that excuses itself from wipes means both."""
    return "wipe" if kind == "kill" and target.startswith("memcached") else kind


def overlap(one: Fault, other: Fault) -> bool:
    """Whether two faults would strike one target at one time in some mode."""
    apart = one.modes and other.modes and not set(one.modes) & set(other.modes)
    first, second = sorted((one, other), key=lambda fault: fault.at_s)
    until_s = first.at_s + first.for_s
    return target_of(one) == target_of(other) and not apart and second.at_s < until_s


def parse_fault(text: str) -> dict[str, Any]:
    """A `--fault` as the table that it would be in TOML. Raises PlanError; `check_fault` then
    checks what it says."""
    match = _FLAG.fullmatch(text.strip())
    if not match:
        raise PlanError(
            f"--fault {text!r}: write KIND@TIME key=value …, "
            "for example 'pause@5s target=lock-holder for=1.5s'"
        )
    kind, at, rest = match.groups()
    table: dict[str, Any] = {"kind": kind, "at_s": _seconds(at, text)}
    for pair in rest.split():
        word, value = pair.split("=", 1)
        field = _WORDS.get(word, word)
        if field not in Fault.__struct_fields__ or field in ("kind", "at_s"):
            raise PlanError(f"--fault {text!r}: no key {word!r}{nearest(word, _known_words())}")
        if field in table:
            raise PlanError(f"--fault {text!r}: {word} is given twice")
        table[field] = _value(field, value, text)
    return table


def check_fault(fault: Fault, where: str) -> None:
    """Raises PlanError, opened by `where`, when a kind cannot have what is said of it."""
    kind = KINDS.get(fault.kind)
    if kind is None:
        raise PlanError(
            f"{where}: no fault {fault.kind!r}{nearest(fault.kind, KINDS)}; "
            f"it can be {', '.join(KINDS)}"
        )
    where = f"{where}: fault {fault.kind}"
    if fault.target and fault.target not in kind.targets:
        raise PlanError(
            f"{where} has no target {fault.target!r}{nearest(fault.target, kind.targets)}; "
            f"it can be {', '.join(kind.targets)}"
        )
    if kind.lasts == "always" and not fault.for_s:
        raise PlanError(f"{where} needs a time that it lasts: for_s (or for=) above 0")
    if kind.lasts == "never" and fault.for_s:
        raise PlanError(f"{where} is over at once; leave for_s (or for=) away")
    if fault.step:
        steps = STEPS.get(target_of(fault), ()) if kind.steps else ()
        if not steps:
            raise PlanError(f"{where} cannot be armed at a step of {target_of(fault)}")
        if fault.step not in steps:
            raise PlanError(
                f"{where} has no step {fault.step!r}{nearest(fault.step, steps)}; "
                f"of {target_of(fault)} it can be {', '.join(steps)}"
            )
    for option in OPTIONS:
        if getattr(fault, option) and option not in kind.options:
            raise PlanError(f"{where} does not heed {option}; leave it away")
        if option in AMOUNTS and option in kind.options and getattr(fault, option) == 0:
            raise PlanError(f"{where}: {option} must be above 0; leave it away for the usual")


def describe(fault: Fault) -> str:
    """As it is written on the command line."""
    words = {field: word for word, field in _WORDS.items()}
    given: Mapping[str, Any] = msgspec.structs.asdict(fault)
    said = [
        f"{words.get(field, field)}={_text(field, value)}"
        for field, value in given.items()
        if value and field not in ("kind", "at_s")
    ]
    return " ".join((f"{fault.kind}@{fault.at_s:g}s", *said))


def _known_words() -> list[str]:
    fields = [name for name in OPTIONS if name not in _WORDS.values()]
    return [*_WORDS, *fields]


def _value(field: str, value: str, text: str) -> Any:
    if field == "modes":
        return [name for name in value.split(",") if name]
    if field.endswith("_s"):
        return _seconds(value, text)
    if field in ("target", "step", "direction"):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def _seconds(value: str, text: str) -> float:
    match = _TIME.fullmatch(value)
    if not match:
        raise PlanError(f"--fault {text!r}: {value!r} is no time; write 1.5s or 300ms")
    number, unit = match.groups()
    return float(number) * _UNITS[unit]


def _text(field: str, value: Any) -> str:
    if field == "modes":
        return ",".join(value)
    return f"{value:g}s" if field.endswith("_s") else str(value)
