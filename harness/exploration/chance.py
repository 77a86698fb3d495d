"""Random schedules, for bounds that are beyond exhaustion; and the least of what they find.

A run draws one way on after another until nobody can go on. Whenever all is quiet on the way, the
state is judged. A schedule that loses is made smaller: processes and steps are left out as long as
it still loses. Each run has a seed of its own, so that one that was found can be repeated alone.
"""

import random
import time
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from harness.exploration.search import Finding
from harness.exploration.space import Move, Space, State
from harness.exploration.undisturbed import Judge, Judgement

MOST_STEPS: Final = 5_000  # of one run; the longest of 8 writers and 6 readers has some hundred
EVENT_EVERY: Final = 0.1  # of all draws: or else all troubles would come at the very start
ENVIRONMENT: Final = -1

Choice: TypeAlias = tuple[int, int]  # whose move, and which of those that he has


class Drawn(NamedTuple):
    """What the runs came to. `seed`: of the run that lost, alone."""

    finding: Finding
    runs: int
    seed: int


class Played(NamedTuple):
    """A schedule that loses: its states, and the choices that lead there."""

    path: tuple[State, ...]
    choices: tuple[Choice, ...]
    judgement: Judgement
    commands: int


class Chance:
    """Draws schedules of a space."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._judge = Judge(space.protocol)
        self._steps = 0

    def run(self, runs: int, seed: int, tell: Callable[[str], None] = lambda _line: None) -> Drawn:
        """Draw so many schedules, or until one loses."""
        began = time.monotonic()
        for number in range(runs):
            played = self._play(random.Random(seed + number))
            if played:
                played = self._shrunk(played)
                spent = time.monotonic() - began
                finding = Finding(
                    "loses", self._steps, spent, played.commands, played.path, played.judgement
                )
                return Drawn(finding, number + 1, seed + number)
            if number % 100 == 0:
                tell(f"{number:,} schedules")
        return Drawn(Finding("unfinished", self._steps, time.monotonic() - began, 0), runs, seed)

    def _play(self, chance: random.Random) -> Played | None:
        """One random schedule, if it loses."""
        state = self._space.start()
        choices: list[Choice] = []
        for _ in range(MOST_STEPS):
            ways = self._ways(state)
            events = [way for way in ways if way[0] == ENVIRONMENT]
            steps = [way for way in ways if way[0] != ENVIRONMENT]
            if not steps:
                return None
            choose_event = events and chance.random() < EVENT_EVERY
            choices.append(chance.choice(events if choose_event else steps))
            state, _ = self._moved(state, *choices[-1])
            if self._is_bad(state):
                return self._replay(choices)
        return None

    def _ways(self, state: State) -> list[Choice]:
        """All choices that there are."""
        return [
            (who, which)
            for who in range(ENVIRONMENT, len(state) - 1)
            for which in range(len(self._moves(state, who)))
        ]

    def _moves(self, state: State, who: int) -> list[Move]:
        if who == ENVIRONMENT:
            return self._space.events(state[0])
        return self._space.moves(who, state[0], state[1 + who])

    def _moved(self, state: State, who: int, which: int) -> tuple[State, Move]:
        self._steps += 1
        move = self._moves(state, who)[which]
        nodes = list(state[1:])
        if who != ENVIRONMENT:
            nodes[who] = move.node
        return (move.store, *nodes), move

    def _is_bad(self, state: State) -> bool:
        at_rest = all(
            self._space.is_quiet(who, node) or self._space.is_blocked(who, state[0], node)
            for who, node in enumerate(state[1:])
        )
        return at_rest and self._judge.judge(self._space.stores[state[0]]).is_bad

    def _replay(self, choices: list[Choice]) -> Played | None:
        """Make these choices, but for those that are not there, as far as to the first loss."""
        state = self._space.start()
        path, made, commands = [state], [], 0
        for who, which in choices:
            if which >= len(self._moves(state, who)):
                continue
            state, move = self._moved(state, who, which)
            path.append(state)
            made.append((who, which))
            commands += move.commands
            if self._is_bad(state):
                judgement = self._judge.judge(self._space.stores[state[0]])
                return Played(tuple(path), tuple(made), judgement, commands)
        return None

    def _shrunk(self, played: Played) -> Played:
        """Leave out whole processes, then ever shorter pieces, as long as it still loses."""
        for who in range(ENVIRONMENT, len(self._space.actors)):
            without = [choice for choice in played.choices if choice[0] != who]
            played = self._smaller(played, without)
        length = len(played.choices)
        while length := length // 2:
            start = 0
            while start < len(played.choices):
                without = list(played.choices[:start] + played.choices[start + length :])
                smaller = self._smaller(played, without)
                if smaller is played:
                    start += length
                played = smaller
        return played

    def _smaller(self, played: Played, choices: list[Choice]) -> Played:
        """The schedule of these choices, if it loses and is shorter."""
        smaller = self._replay(choices)
        return smaller if smaller and len(smaller.choices) < len(played.choices) else played
