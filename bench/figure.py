"""One measured figure, as it stands in `bench/results.json`."""

from typing import NamedTuple


class Figure(NamedTuple):
    """`ratio` is value over the value of `against`; `target` says what it should be."""

    name: str
    value: float
    unit: str
    against: str  # what it is compared with, and that one's value
    ratio: float | None
    target: str  # such as "ratio <= 0.4"; empty without one
    met: bool | None
