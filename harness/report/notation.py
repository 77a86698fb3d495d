"""How numbers are written, in one place: thousands separated, three figures where it matters."""

from typing import Final

NOTHING: Final = "–"


def count(value: float | None) -> str:
    """`4512` as `4,512`."""
    return NOTHING if value is None else f"{value:,.0f}"


def number(value: float | None) -> str:
    """Three significant figures, never an exponent: `0.012`, `1.49`, `12.3`, `1,203`."""
    if value is None:
        return NOTHING
    size = abs(value)
    if size >= 100 or value == 0:
        return f"{value:,.0f}"
    decimals = 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:.{decimals}f}"


def share(value: float) -> str:
    """A share of one as a percentage with two significant figures: `0.066 %`, `1.2 %`, `37 %`."""
    percent = value * 100
    if percent == 0:
        return "0 %"
    decimals = 0 if percent >= 10 else 1 if percent >= 1 else 2 if percent >= 0.1 else 3
    return f"{percent:.{decimals}f} %"


def span(range_: tuple[int, int]) -> str:
    """`3` or `3 to 7`: the fewest and the most of several trials."""
    least, most = range_
    return count(least) if least == most else f"{count(least)} to {count(most)}"


def times(votes: int, singular: str, plural: str) -> str:
    """`1 vote`, `2 votes`."""
    return f"{count(votes)} {singular if votes == 1 else plural}"
