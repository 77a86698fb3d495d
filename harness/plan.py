"""The plan of a run, read from TOML, changed by flags, and checked before anything starts.

It is complete and never changes: whoever holds one need not ask whether an option was given.
"""

import itertools
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import msgspec
import tomli_w
from msgspec import Meta

from harness.credentials import masked_url, masked_value, told_url, told_value
from harness.errors import PlanError
from harness.fault import Fault, check_fault, overlap, target_of
from harness.slo import Slo, nearest, parse_slo
from harness.vote import Poll, flaw

PEAKED: Final = ("spike", "step")  # curves that rise from a trickle to a peak
MOST: Final = 1e9  # of any quantity: 30 years, a billion votes a second; and so never infinite
Positive = Annotated[float, Meta(gt=0, le=MOST)]
NotNegative = Annotated[float, Meta(ge=0, le=MOST)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]
Processes = Annotated[int, Meta(ge=1, le=64)]
SiteProcesses = Annotated[int, Meta(ge=1, le=4096)]  # that many are only ever simulated
Threads = Annotated[int, Meta(ge=1, le=512)]


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the plan."""


class PollPlan(_Section, frozen=True):
    """The poll that the voters vote on."""

    name: str = "controversial-poll"
    question: str = "Should the town hall be painted orange?"
    choices: tuple[str, ...] = ("Yes", "No", "Only the door")
    once: bool = False  # each voter is counted once at most

    def poll(self) -> Poll:
        return Poll(self.name, self.question, self.choices, self.once)


class Arrivals(_Section, frozen=True):
    """When voters come: a rate curve over time, in votes per second. See docs/load.md."""

    curve: Literal["trickle", "spike", "step", "replay"] = "trickle"
    trickle_per_s: NotNegative = 3.5
    peak_per_s: NotNegative = 0.0
    starts_s: NotNegative = 0.0  # when the spike or the step begins
    rise_s: Positive = 1.0  # spike: time constant of the rise
    decay_s: Positive = 5.0  # spike: time constant of the decay
    peak_at_s: NotNegative = 0.0  # spike: when the peak is reached
    lasts_s: Positive = 10.0  # step: how long it stays at the peak
    bin_s: Positive = 1.0  # replay: how long each of the following lasts
    votes_per_bin: tuple[NotNegative, ...] = ()  # replay: how many votes are due in each
    results_per_vote: NotNegative = 0.0  # results pages asked for, per vote


class Voters(_Section, frozen=True):
    """How one voter behaves, and how many processes play them."""

    timeout_s: Positive = 5.0
    retries: Annotated[int, Meta(ge=0, le=10)] = 0  # with the same vote id
    generators: Processes = 1
    first_generator: Annotated[int, Meta(ge=1, le=65_000)] = 1  # vote ids begin with its number
    keep_alive: bool = True
    # host:port at which workers on other machines are waited for; empty: generators run here.
    master: str = ""
    # How many votes, under ids of their own, each voter tries to cast, from several generators.
    votes_each: Annotated[int, Meta(ge=1, le=1000)] = 1


class Site(_Section, frozen=True):
    """The vote server: so many processes, each of which works on so many requests at a time."""

    workers: SiteProcesses = 2
    threads: Threads = 16
    # Requests that wait, per worker; more are refused. Two workers so stand a stall as long as the
    # queue's patience at nearly 1,000 votes/s; a thread for each takes 0.1 MiB once it is needed.
    waiting: Annotated[int, Meta(ge=0, le=4096)] = 512
    wait_s: Positive = 2.0  # who has waited so long is refused: the patience, and to catch up
    host: str = "127.0.0.1"  # where it listens; another for workers on other machines
    port: Annotated[int, Meta(ge=0, le=65535)] = 0  # 0: any free one
    https: bool = False  # people come through https, so that their cookies must
    # `cached`: how old totals may be. memcached counts whole seconds, and 1 may end at once.
    totals_ttl_s: Annotated[int, Meta(ge=2, le=3600)] = 2
    journal: bool = True


class QueuePlan(_Section, frozen=True):
    """The queue on memcached, in queue modes."""

    prefix: Annotated[str, Meta(pattern=r"^[!-~]{1,100}\Z")] = "poll-queue"
    queues: Annotated[int, Meta(ge=1, le=256)] = 1
    patience_s: Positive = 1.0
    after_patience: Literal["takeover", "fallback", "refuse"] = "takeover"
    slot_grace_s: Positive = 0.02  # how long a ticket's slot may stay empty before it is closed
    # How long a closed slot stays closed. A vote slower than that, less 2 s, ends in `unknown`.
    tombstone_life_s: Annotated[int, Meta(ge=10, le=86_400)] = 60


class FlusherPlan(_Section, frozen=True):
    """What drains the queue into the database."""

    processes: Annotated[int, Meta(ge=1, le=16)] = 1
    interval_s: Positive = 0.5
    batch_rows: Annotated[int, Meta(ge=1, le=10_000)] = 1000


class MemcachedPlan(_Section, frozen=True):
    """The memcached daemons that a queue lies on, and each of those that the harness starts."""

    daemons: Annotated[int, Meta(ge=1, le=16)] = 1  # a queue's keys are spread over so many
    rehash: bool = False  # whether keys of a dead daemon move to the others
    dead_s: Positive = 5.0  # with rehash: how long it counts as dead
    memory_mib: Annotated[int, Meta(ge=1, le=1_048_576)] = 64
    timeout_s: Positive = 1.0  # connect, and each reply
    evict: bool = True  # False: refuse instead (-M)


class DatabasePlan(_Section, frozen=True):
    """The MariaDB server that the harness starts."""

    commit_wait_us: Annotated[int, Meta(ge=0, le=1_000_000)] = 0  # group-commit wait
    timeout_s: Positive = 5.0
    max_connections: Annotated[int, Meta(ge=10, le=10_000)] = 600


class TargetPlan(_Section, frozen=True):
    """Somebody else's vote server, instead of ours; nothing of it is started or broken.

    In paths and body `{poll}`, `{vote}` (16 hex digits), `{number}` (the same in decimal),
    `{choice}` and `{voter}` are filled in.
    """

    url: str = ""  # http://host:port; empty: our own site, in each of the modes
    vote_path: Annotated[str, Meta(pattern=r"^/[!-~]*\Z")] = "/polls/{poll}/votes"
    results_path: Annotated[str, Meta(pattern=r"^/[!-~]*\Z")] = "/polls/{poll}/results"
    content_type: Annotated[str, Meta(pattern=r"^[ -~]+\Z")] = "application/json"
    body: str = '{"vote":"{vote}","choice":{choice},"voter":"{voter}"}'
    headers: dict[
        Annotated[str, Meta(pattern=r"^[!-9;-~]+\Z")], Annotated[str, Meta(pattern=r"^[ -~]*\Z")]
    ] = {}
    acknowledged: tuple[int, ...] = ()  # statuses that promise to count the vote, besides 2xx
    unknown: tuple[int, ...] = ()  # statuses that leave it open, though ours of that number do not
    ballots: str = ""  # a CSV file, or mysql://user:password@host:port/name?query=SELECT …

    def masked(self) -> "TargetPlan":
        """As it may be written down: see `credentials`."""
        headers = {name: masked_value(value) for name, value in self.headers.items()}
        return msgspec.structs.replace(self, headers=headers, ballots=masked_url(self.ballots))


class Limits(_Section, frozen=True):
    """How long each step may take before the run gives up on it."""

    start_s: Positive = 60.0  # until a service answers
    grace_s: Positive = 5.0  # beyond the voters' time-out, until the last answer
    drain_s: Positive = 60.0  # until the queue is empty


class Plan(_Section, frozen=True):
    """Everything a run needs to know; `plan.toml` in the run folder is this, written out."""

    scenario: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,63}\Z")]
    description: str = ""
    modes: tuple[str, ...] = ("direct", "cached", "classic")
    duration_s: Positive = 20.0
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 1
    repeat: Annotated[int, Meta(ge=1, le=1000)] = 1
    slo: tuple[str, ...] = ()
    poll: PollPlan = PollPlan()
    arrivals: Arrivals = Arrivals()
    voters: Voters = Voters()
    site: Site = Site()
    queue: QueuePlan = QueuePlan()
    flusher: FlusherPlan = FlusherPlan()
    memcached: MemcachedPlan = MemcachedPlan()
    database: DatabasePlan = DatabasePlan()
    target: TargetPlan = TargetPlan()
    limits: Limits = Limits()
    faults: tuple[Fault, ...] = ()

    def slos(self) -> tuple[Slo, ...]:
        return tuple(parse_slo(text) for text in self.slo)

    def stretched(self, duration_s: float) -> "Plan":
        """The same story told in another time: when things happen scales, stalls stay as long."""
        scale = duration_s / self.duration_s
        times = ("starts_s", "rise_s", "decay_s", "peak_at_s", "lasts_s", "bin_s")
        curve = {name: getattr(self.arrivals, name) * scale for name in times}
        curve["votes_per_bin"] = tuple(n * scale for n in self.arrivals.votes_per_bin)
        return msgspec.structs.replace(
            self,
            duration_s=duration_s,
            arrivals=msgspec.structs.replace(self.arrivals, **curve),
            faults=tuple(
                msgspec.structs.replace(fault, at_s=fault.at_s * scale) for fault in self.faults
            ),
        )

    def with_secrets(self) -> "Plan":
        """As it is played: with what the environment has. Raises PlanError for what it has not, and
        for a plan that was written down without its secrets."""
        headers = self.target.headers.items()
        changes = {
            "target.headers": {n: told_value(value, f"target.headers.{n}") for n, value in headers},
            "target.ballots": told_url(self.target.ballots, "target.ballots"),
        }
        return with_changes(self, changes, "the environment")

    def for_generators(self) -> "Plan":
        """What they need of it, here or on another machine: where the ballots are is none of it."""
        target = msgspec.structs.replace(self.target, ballots="")
        return msgspec.structs.replace(self, target=target)

    def to_toml(self) -> str:
        """As it may be written down: without its secrets."""
        plan = msgspec.structs.replace(self, target=self.target.masked())
        return tomli_w.dumps(_without_none(msgspec.to_builtins(plan)))


def host_of(address: str, what: str) -> str:
    """The host of `host:port`. Raises PlanError for anything else; `what` opens its message."""
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise PlanError(f"{what} {address!r}: write host:port, for example 127.0.0.1:11211")
    return host.removeprefix("[").removesuffix("]")


def read_plan(path: Path) -> Plan:
    """The plan in a TOML file. Raises PlanError that names file, key, and the nearest key."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PlanError(f"{path} is no TOML: {error}") from error
    return plan_from(tables, str(path))


def with_changes(plan: Plan, changes: dict[str, Any], where: str) -> Plan:
    """The plan with other values at dotted keys such as `arrivals.peak_per_s`; None changes none.

    Raises PlanError as for a plan file.
    """
    tables = _without_none(msgspec.to_builtins(plan))
    for dotted, value in changes.items():
        if value is not None:
            *sections, key = dotted.split(".")
            table = tables
            for section in sections:
                table = table.setdefault(section, {})
                if not isinstance(table, dict):
                    raise PlanError(f"{where}: {section} is no table, so it has no {dotted!r}")
            table[key] = value
    return plan_from(tables, where)


def plan_from(tables: dict[str, Any], where: str) -> Plan:
    """A checked plan from TOML tables; `where` opens each error message."""
    _refuse_unknown_keys(tables, Plan, where, "")
    try:
        plan = msgspec.convert(tables, Plan)
    except msgspec.ValidationError as error:
        raise PlanError(f"{where}: {readable(str(error))}") from error
    check(plan, where)
    return plan


def check(plan: Plan, where: str) -> None:
    """What no type can say. Raises PlanError."""
    if wrong := flaw(plan.poll.poll()):
        raise PlanError(f"{where}: poll.{wrong}")
    if not plan.modes:
        raise PlanError(f"{where}: modes is empty; name at least one, for example 'direct'")
    if len(set(plan.modes)) < len(plan.modes):
        raise PlanError(f"{where}: modes names one twice; use repeat to drive each several times")
    arrivals = plan.arrivals
    if arrivals.curve == "spike" and arrivals.peak_at_s < arrivals.starts_s:
        raise PlanError(f"{where}: arrivals.peak_at_s must not be before arrivals.starts_s")
    if arrivals.curve == "replay" and not any(arrivals.votes_per_bin):
        raise PlanError(f"{where}: arrivals.votes_per_bin needs at least one bin with votes")
    if arrivals.curve in PEAKED and arrivals.peak_per_s < arrivals.trickle_per_s:
        raise PlanError(f"{where}: arrivals.peak_per_s must be at least arrivals.trickle_per_s")
    for fault in plan.faults:
        check_fault(fault, where)
        if fault.at_s >= plan.duration_s:
            raise PlanError(
                f"{where}: fault {fault.kind} at {fault.at_s:g} s comes after the load's end "
                f"({plan.duration_s:g} s)"
            )
    for one, other in itertools.combinations(plan.faults, 2):
        if overlap(one, other):
            first, second = sorted((one, other), key=lambda fault: fault.at_s)
            raise PlanError(
                f"{where}: the {second.kind} of {target_of(second)} at {second.at_s:g} s begins "
                f"before the {first.kind} at {first.at_s:g} s ends"
            )
    where_ids_go = plan.target.vote_path + plan.target.body
    if plan.target.url and not any(each in where_ids_go for each in ("{vote}", "{number}")):
        raise PlanError(
            f"{where}: target.body must carry the vote's id, as {{vote}} or {{number}}; "
            "without it no vote can be found again"
        )
    plan.slos()


def scenario_folders() -> list[Path]:
    """Where scenarios lie: `locustfiles/` here, and that of the installed project."""
    return [Path.cwd() / "locustfiles", Path(__file__).parent.parent / "locustfiles"]


def known_scenarios() -> list[str]:
    """Names of all scenarios found, sorted."""
    files = [path for folder in scenario_folders() for path in folder.glob("*.toml")]
    return sorted({path.stem.replace("_", "-") for path in files})


def find_scenario(name: str) -> Path:
    """The TOML file of a scenario: a path, or a name from `locustfiles/`. Raises PlanError."""
    if name.endswith(".toml"):
        return Path(name)
    for folder in scenario_folders():
        path = folder / f"{name.replace('-', '_')}.toml"
        if path.is_file():
            return path
    known = known_scenarios()
    raise PlanError(
        f"no scenario {name!r}{nearest(name, known)}; known: {', '.join(known) or 'none'}; "
        "or give the path of a .toml file"
    )


def _refuse_unknown_keys(table: Any, section: Any, where: str, prefix: str) -> None:
    """msgspec also refuses unknown keys, but cannot name the nearest."""
    if not isinstance(table, dict):
        return
    fields = {field.name: field.type for field in msgspec.structs.fields(section)}
    for key, value in table.items():
        if key not in fields:
            raise PlanError(f"{where}: no key {prefix + key!r}{nearest(key, fields)}")
        allowed = [str(name) for name in get_args(fields[key])]
        if get_origin(fields[key]) is Literal and value not in allowed:
            raise PlanError(
                f"{where}: {prefix}{key} has no value {value!r}{nearest(str(value), allowed)}; "
                f"it can be {', '.join(allowed)}"
            )
        if isinstance(fields[key], type) and issubclass(fields[key], _Section):
            _refuse_unknown_keys(value, fields[key], where, f"{prefix}{key}.")
        elif key == "faults" and isinstance(value, list):
            for number, fault in enumerate(value, start=1):
                _refuse_unknown_keys(fault, Fault, where, f"faults[{number}].")


def readable(message: str) -> str:
    """msgspec's `Expected `float` >= 0.0 - at `$.arrivals.peak_per_s`` with the place first."""
    problem, separator, place = message.rpartition(" - at ")
    if not separator:
        return message
    return f"{place.strip('`').removeprefix('$.')}: {problem[:1].lower()}{problem[1:]}"


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, (list, tuple)):
        return [_without_none(inner) for inner in value]
    return value
