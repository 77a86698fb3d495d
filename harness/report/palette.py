"""The report's colours, each with a light and a dark value, and how modes are told apart.

Series follow Okabe and Ito (Color Universal Design, 2008), darkened for white and lightened for
dark paper until each has a contrast of at least 3:1; dash and marker tell them apart without
colour. Figures are drawn in light values; `drawing` turns those into CSS variables, so every
light value stands here once only.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple


class Colour(NamedTuple):
    """One colour: its CSS variable without the dashes, and its values."""

    name: str
    light: str
    dark: str


INK: Final = Colour("ink", "#1b1f24", "#e9ebee")
MUTED: Final = Colour("muted", "#57606a", "#a8b1bc")
GRID: Final = Colour("grid", "#e2e6ea", "#2c333b")
PAPER: Final = Colour("paper", "#fefefe", "#15181d")
FAULT: Final = Colour("fault", "#b98105", "#e3b341")

COUNTED: Final = Colour("counted", "#a9c1d6", "#41617c")
LOST: Final = Colour("lost", "#c5321a", "#ff7b5f")
ALTERED: Final = Colour("altered", "#8a5a10", "#d9a05b")
TWICE: Final = Colour("twice", "#7b3fa0", "#c79bea")
RESURRECTED: Final = Colour("resurrected", "#a02c6b", "#f08cc0")
PHANTOM: Final = Colour("phantom", "#4d4d8f", "#a5a5f0")
PENDING: Final = Colour("pending", "#e0b64d", "#9a7413")
RECOVERED: Final = Colour("recovered", "#7f9aa8", "#5d7888")
ABSENT: Final = Colour("absent", "#969ea7", "#6b747e")
REFUSED: Final = Colour("refused", "#ccd2d8", "#4b535c")
REJECTED: Final = Colour("rejected", "#c3b3d6", "#655680")
OVERVOTED: Final = Colour("overvoted", "#9c1c5a", "#ff8fc2")
KEPT: Final = Colour("kept", "#0b7a4b", "#4ccb93")

SERIES: Final = (
    Colour("series-1", "#0072b2", "#56b4e9"),
    Colour("series-2", "#00805e", "#2fc79a"),
    Colour("series-3", "#c25700", "#f59a4c"),
    Colour("series-4", "#a8478a", "#e396c8"),
    Colour("series-5", "#6a6a00", "#d6d65c"),
    Colour("series-6", "#4b5563", "#c3cad3"),
)
COLOURS: Final = (
    *(INK, MUTED, GRID, PAPER, FAULT, COUNTED, LOST, ALTERED, TWICE, RESURRECTED, PHANTOM),
    *(PENDING, RECOVERED, ABSENT, REFUSED, REJECTED, OVERVOTED, KEPT, *SERIES),
)

_DASHES: Final = ("-", (0, (5, 1.5)), (0, (2, 1.2)), (0, (6, 1.5, 1.5, 1.5)), (0, (8, 2)), ":")
_MARKERS: Final = ("o", "s", "^", "D", "v", "P")


class Series(NamedTuple):
    """How one line is told from the others."""

    colour: str
    dash: Any  # as matplotlib takes it
    marker: str


def series(number: int) -> Series:
    """The look of line `number`, from 0; after the sixth, colours repeat with another dash."""
    turn, place = divmod(number, len(SERIES))
    return Series(
        SERIES[place].light,
        _DASHES[(place + turn) % len(_DASHES)],
        _MARKERS[(place + turn) % len(_MARKERS)],
    )


def css_variables(dark: bool, colours: Sequence[Colour] = COLOURS) -> str:
    """The declarations of all colours for one scheme."""
    return " ".join(f"--{c.name}: {c.dark if dark else c.light};" for c in colours)
