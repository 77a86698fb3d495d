"""Two things measured in turn, so that a machine whose speed drifts slows both alike."""

from collections.abc import Callable
from typing import TypeVar

Ours = TypeVar("Ours")
Theirs = TypeVar("Theirs")


def in_turn(
    ours: Callable[[], Ours], theirs: Callable[[], Theirs], rounds: int
) -> list[tuple[Ours, Theirs]]:
    """Measure A B, B A, A B …; the first pair warms up and is not counted."""
    pairs: list[tuple[Ours, Theirs]] = []
    for number in range(rounds + 1):
        if number % 2:
            other = theirs()
            pairs.append((ours(), other))
        else:
            own = ours()
            pairs.append((own, theirs()))
    return pairs[1:]
