"""How long to wait for a lock, from cells that are made by hand."""

from harness.capacity.patience import CELLS, Cell, Loss, mapped, summarised
from harness.capacity.wording import (
    patience_sentence,
)
from tests.studied import cell

GRID_OF_CELLS = [
    *(cell(0.5, 0.3, 0), cell(1, 0.3, 0), cell(2, 0.3, 0), cell(4, 0.3, 0)),
    *(cell(0.5, 1.2, 3), cell(1, 1.2, 2), cell(2, 1.2, 0), cell(4, 1.2, 0)),
    *(cell(0.5, 2.4, 0), cell(1, 2.4, 5), cell(2, 2.4, 1), cell(4, 2.4, 0)),
]
WANTED = [Cell(each.patience_s, each.stall_s, each.rate_per_s) for each in GRID_OF_CELLS]


def test_a_patience_is_recommended_only_if_no_longer_one_lost_a_vote() -> None:
    found = summarised(GRID_OF_CELLS, WANTED)
    assert (found.recommended_s, found.never_below_s) == (4, 2)
    assert found.shortest_harmful_stall_s == 1.2
    assert patience_sentence(found) == (
        "From 4 s on, no stall of up to 2.4 s lost a vote, in 3 simulated stalls. "
        "Never less than 2 s: then even a stall of 1.2 s loses some."
    )


def test_without_any_loss_every_patience_will_do_and_with_too_many_none() -> None:
    lossless = [cell(0.5, 0.3, 0), cell(1, 0.3, 0)]
    wanted = [Cell(0.5, 0.3, 100.0), Cell(1, 0.3, 100.0)]
    found = summarised(lossless, wanted)
    assert (found.recommended_s, found.never_below_s) == (0.5, None)
    lossy = summarised([cell(0.5, 0.3, 1), cell(1, 0.3, 2)], wanted)
    assert (lossy.recommended_s, lossy.never_below_s) == (None, None)


def test_what_a_missing_cell_leaves_open_is_not_recommended_and_no_line() -> None:
    without = [each for each in GRID_OF_CELLS if (each.patience_s, each.stall_s) != (4, 1.2)]
    found = summarised(without, WANTED)
    assert (found.recommended_s, found.never_below_s) == (None, 2)
    assert patience_sentence(found).endswith("Only 11 of 12 cells could be simulated in time.")
    without = [each for each in GRID_OF_CELLS if (each.patience_s, each.stall_s) != (1, 0.3)]
    found = summarised(without, WANTED)  # a shorter stall than 1.2 s may do harm, too
    assert (found.recommended_s, found.never_below_s) == (4, None)


def test_a_cell_is_the_mean_of_its_trials_and_the_measured_stand_beside_the_simulated() -> None:
    losses = [Loss(CELLS[0], lost, lost, simulated=True) for lost in (0, 3, 0)]
    simulated, measured = mapped([*losses, Loss(CELLS[0], 1, 1, simulated=False)]).cells
    assert (simulated.lost, simulated.lost_most, simulated.trials) == (1.0, 3, 3)
    assert (measured.lost, measured.trials, measured.simulated) == (1.0, 1, False)
