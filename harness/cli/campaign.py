"""What `pollstorm simulate --campaign` prints, and what it leaves behind."""

from collections import Counter
from pathlib import Path
from time import perf_counter
from typing import Final

import click
import msgspec
from rich.console import Console
from rich.progress import track
from rich.table import Table

from harness.cli.progress import print_json
from harness.errors import Exit, PlanError
from harness.plan import Plan
from harness.run_folder import write_atomically
from harness.services.interruption import interruptible
from harness.simulation.campaign import Game, draw, play_all
from harness.simulation.trial import Machine

HEADS: Final = ("mode", "played", "faults hit", "missed", "lost", "double", "unpromised", "broken")


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one mode's trials: numbers of trials, of faults and of votes."""

    played: int
    faults_hit: int
    faults_missed: int
    sent: int  # votes
    lost: int
    duplicated: int
    altered: int
    void: int  # trials in which nothing was promised for what happened
    unexplained: int  # votes without a certificate's cause
    not_drained: int  # trials
    violations: int  # trials


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """One trial that went wrong."""

    mode: str
    seed: int
    what: str
    plan: str  # the file that repeats it


class Campaign(msgspec.Struct, frozen=True, kw_only=True):
    """The whole campaign, as `--json` prints it."""

    seed: int
    trials: int  # of each mode
    modes: dict[str, Tally]
    violations: tuple[Violation, ...]


def wage(plan: Plan, trials: int, machine: Machine, folder: Path, *, as_json: bool) -> int:
    """Play it and print what came of it; the exit code. Raises PlanError, Interrupted."""
    drawn = list(draw(plan, plan.modes, trials, plan.seed))
    console = Console(stderr=as_json)
    games: list[Game] = []
    violations: list[Violation] = []
    began_s = perf_counter()
    with interruptible():
        told = track(play_all(drawn, machine), "playing", len(drawn), console=console,
                     transient=True, disable=not console.is_terminal)  # fmt: skip
        for game in told:
            games.append(game)
            if game.is_violation:
                violations.append(_keep(game, folder))
                console.print(f"VIOLATION {violations[-1].what}", soft_wrap=True, highlight=False)
    minutes = (perf_counter() - began_s) / 60
    campaign = Campaign(
        seed=plan.seed,
        trials=trials,
        modes={mode: _tally([g for g in games if g.mode == mode]) for mode in plan.modes},
        violations=tuple(violations),
    )
    if as_json:
        print_json(msgspec.json.format(msgspec.json.encode(campaign)))
    else:
        _print(campaign, console)
        click.echo(f"{len(games) / minutes:,.0f} trials a minute", err=True)
    return Exit.BROKEN_PROMISE if violations else Exit.OK


def _keep(game: Game, folder: Path) -> Violation:
    """Write down the plan of a trial that went wrong. Raises PlanError."""
    path = folder / f"{game.plan.scenario}.toml"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, game.plan.to_toml().encode())
    except OSError as error:
        raise PlanError(f"cannot write {path}: {error.strerror}") from error
    return Violation(mode=game.mode, seed=game.seed, what=game.describe(), plan=str(path))


def _tally(games: list[Game]) -> Tally:
    bad: Counter[str] = Counter()
    for game in games:
        bad.update(game.bad)
    hits = [fault.hit for game in games for fault in game.faults]
    return Tally(
        played=len(games),
        faults_hit=sum(hits),
        faults_missed=len(hits) - sum(hits),
        sent=sum(game.sent for game in games),
        lost=bad["lost"],
        duplicated=bad["duplicated"],
        altered=bad["altered"],
        void=sum(bool(game.bad) and game.kept is None for game in games),
        unexplained=sum(game.unexplained for game in games),
        not_drained=sum(not game.drained for game in games),
        violations=sum(game.is_violation for game in games),
    )


def _print(campaign: Campaign, console: Console) -> None:
    table = Table(*HEADS)
    for mode, tally in campaign.modes.items():
        figures = (
            tally.played, tally.faults_hit, tally.faults_missed, tally.lost, tally.duplicated,
            tally.void, tally.violations,
        )  # fmt: skip
        table.add_row(mode, *(f"{number:,}" for number in figures))
    console.print(table)
    for violation in campaign.violations:
        console.print(
            f"{violation.what}\n  repeat: pollstorm simulate {violation.plan}\n"
            f"      or: --modes {violation.mode} --campaign 1 --seed {violation.seed}",
            soft_wrap=True,
            highlight=False,
        )
    if not campaign.violations:
        console.print("Nothing was lost or counted twice where it had been promised, and every "
                      "death is explained.")  # fmt: skip
