"""What lies where in a run folder, and how it gets there: whole or not at all.

    <run>/plan.toml environment.json events.jsonl result.json junit.xml summary.md index.html
    <run>/simulation.json        only of a simulated run: the service times that it was played with
    <run>/tables/*.csv  figures/*.png  logs/*
    <run>/<trial>/ledger.parquet journal.parquet ballots.parquet trial.json
    <run>/<trial>/rejections.parquet     only of a once-only poll: votes that were too many
    <run>/<trial>/certificates.parquet   why votes were lost, altered or doubled
    <run>/<trial>/raw/*          the records as they were written, until they are Parquet

A trial is a mode's name, with `.2`, `.3` … for its repetitions.
"""

import json
import os
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from harness.errors import PlanError
from harness.plan import Plan, read_plan
from harness.result import FaultRecord, RunResult, read_result

LATEST: Final = "latest"


TARGET: Final = "target"
"""Stands for a mode's name where somebody else's server was driven."""


class TrialFacts(msgspec.Struct, frozen=True, kw_only=True):
    """`trial.json`: what the audit cannot read off the histories."""

    mode: str
    promises: bool  # whether the mode promises to lose nothing
    excuses: tuple[str, ...] = ()  # kinds of faults under which it may lose votes all the same
    void_by: tuple[str, ...] = ()  # what of the plan takes the promise away, whatever happens
    planned: dict[int, int] | None  # generator → votes planned; None: ids unknown, no phantoms
    recasts: int = 0  # how often a vote could be cast again under a new id
    once: bool = False  # the poll counts each voter once at most
    votes_each: int = 1  # votes that each voter was to cast
    load_start_ns: int  # CLOCK_MONOTONIC of the plan's second 0
    duration_s: float
    drained: bool  # the queue was seen empty and the flusher idle
    partial: bool  # interrupted, or a step failed: `notes` says which
    notes: tuple[str, ...] = ()
    missing_generators: tuple[int, ...] = ()  # ledgers that are not whole
    ceiling_per_s: float | None = None
    in_flight_sampled: float | None = None
    site_in_flight: float | None = None
    short_of_users: bool = False  # the load generator had fewer users than the load takes
    longest_block_ms: float | None = None  # how long nothing could run in it at worst
    clock_within_ms: float | None = None  # of workers' machines: how well their clocks are known
    faults: tuple[FaultRecord, ...] = ()
    cpu_s: dict[str, float] = {}  # processor time under the load, by service


class TrialFolder:
    """One trial's files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.raw = path / "raw"
        self.ledger = path / "ledger.parquet"
        self.journal = path / "journal.parquet"
        self.ballots = path / "ballots.parquet"
        self.rejections = path / "rejections.parquet"
        self.certificates = path / "certificates.parquet"
        self.facts_file = path / "trial.json"

    @property
    def name(self) -> str:
        return self.path.name

    def create(self) -> "TrialFolder":
        self.raw.mkdir(parents=True)
        return self

    def write_facts(self, facts: TrialFacts) -> None:
        write_atomically(self.facts_file, msgspec.json.format(msgspec.json.encode(facts)))

    def read_facts(self) -> TrialFacts:
        """Raises PlanError when the file is missing or of another kind."""
        try:
            return msgspec.json.decode(self.facts_file.read_bytes(), type=TrialFacts)
        except OSError as error:
            raise PlanError(f"{self.facts_file}: {error.strerror}") from error
        except msgspec.MsgspecError as error:
            raise PlanError(f"{self.facts_file}: {error}") from error


class RunFolder:
    """A run's files; made by `create`, found again by `open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plan_file = path / "plan.toml"
        self.result_file = path / "result.json"
        self.events_file = path / "events.jsonl"
        self.simulation_file = path / "simulation.json"
        self.environment_file = path / "environment.json"
        self.logs = path / "logs"
        self.figures = path / "figures"
        self.tables = path / "tables"
        self.page = path / "index.html"
        self.summary = path / "summary.md"
        self.junit = path / "junit.xml"

    @classmethod
    def create(cls, parent: Path, plan: Plan, out: Path | None = None) -> "RunFolder":
        """A fresh folder for the plan: `<parent>/<UTC>-<scenario>`, or exactly `out`.

        Never reuses one. Raises PlanError when it exists or cannot be made.
        """
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        path = out or parent / f"{stamp}-{plan.scenario}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            raise PlanError(f"{path} exists; runs are never overwritten, choose another") from None
        except OSError as error:
            raise PlanError(f"cannot make the run folder {path}: {error.strerror}") from error
        folder = cls(path)
        for inner in (folder.logs, folder.figures, folder.tables):
            inner.mkdir()
        write_atomically(folder.plan_file, plan.to_toml().encode())
        return folder

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """An existing run. Raises PlanError when the folder holds none."""
        folder = cls(path)
        if not path.is_dir():
            raise PlanError(f"{path} is no folder; give a run folder such as reports/latest")
        if not folder.plan_file.is_file():
            raise PlanError(f"{path} is no run folder: it has no plan.toml")
        return folder

    @property
    def is_simulated(self) -> bool:
        """Whether all that lies here happened in virtual time."""
        return self.simulation_file.is_file()

    def plan(self) -> Plan:
        return read_plan(self.plan_file)

    def result(self) -> RunResult:
        """Raises PlanError when there is none, or it is of another schema."""
        try:
            return read_result(self.result_file.read_bytes())
        except OSError as error:
            raise PlanError(
                f"{self.result_file}: {error.strerror}; `pollstorm audit {self.path}` makes it"
            ) from error
        except msgspec.MsgspecError as error:
            raise PlanError(f"{self.result_file}: {error}") from error

    def trial(self, mode: str, repetition: int = 1) -> TrialFolder:
        return TrialFolder(self.path / (mode if repetition == 1 else f"{mode}.{repetition}"))

    def trials(self) -> dict[str, list[TrialFolder]]:
        """The trials that have facts, by mode, in the plan's order of modes."""
        plan = self.plan()
        found = {
            mode: [self.trial(mode, n) for n in range(1, plan.repeat + 1)] for mode in plan.modes
        }
        have = {m: [t for t in trials if t.facts_file.is_file()] for m, trials in found.items()}
        return {mode: trials for mode, trials in have.items() if trials}

    def note_event(self, event: str, **details: Any) -> None:
        """Append to `events.jsonl`, with the time."""
        line = {"utc": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event}
        with self.events_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line | details) + "\n")

    def was_cut_short(self) -> bool:
        """Whether a run began here and did not say that it ended: it was killed, or goes on."""
        try:
            lines = self.events_file.read_text(encoding="utf-8").splitlines()
        except OSError:
            return False
        events = set()
        for line in lines:
            with suppress(ValueError):  # the last one may be half a line
                events.add(json.loads(line)["event"])
        return "started" in events and "ended" not in events

    def point_latest_here(self) -> None:
        """Make `<parent>/latest` a link to this run."""
        link = self.path.parent / LATEST
        if link.exists() and not link.is_symlink():
            return  # somebody's own folder of that name
        fresh = link.with_name(f".{LATEST}-{os.getpid()}")
        fresh.symlink_to(self.path.name)
        fresh.replace(link)


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside the place and move: a reader never sees half a file."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def remove_raw(trial: TrialFolder) -> None:
    """Drop the raw records once they are Parquet."""
    shutil.rmtree(trial.raw, ignore_errors=True)
