"""The matrix: its table, how a cell is judged, and a sample of it played for real."""

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from harness.cli.matrix import matrix
from harness.errors import Exit, PlanError
from harness.fault import KINDS, amounts_to, target_of
from harness.matrix.campaign import random_rows
from harness.matrix.expectations import Expectation, base_plan, chosen, read_table
from harness.matrix.outcome import judge
from harness.modes.ticket import Ticket
from harness.result import CauseCount, FaultRecord, ModeResult
from tests.results import mode_result

HIT = FaultRecord(kind="wipe", target="memcached", start_s=1.0, end_s=1.0, hit=True)
MISSED = msgspec.structs.replace(HIT, hit=False, detail="did not meet its target")
NOTHING = Expectation("nothing")
EXCUSED = Ticket().excuses
WIPED = Expectation("loses", ("wiped",))


def trial(
    *, lost: int = 0, fault: FaultRecord = HIT, unexplained: int = 0, **causes: int
) -> ModeResult:
    result = mode_result(lost=lost)
    counts = {
        name.replace("_", "-"): CauseCount(certain=n, probable=0) for name, n in causes.items()
    }
    return msgspec.structs.replace(result, faults=(fault,), causes=counts, unexplained=unexplained)


def test_every_kind_of_fault_has_a_row_and_every_row_a_reason():
    rows = read_table()
    assert {fault.kind for row in rows for fault in row.plan.faults} == set(KINDS)
    assert all(row.why.endswith(".") for row in rows)


def test_modes_that_promise_are_expected_to_lose_nothing_that_memcached_kept():
    for row in read_table():
        for mode in {"direct", "cached"} & set(row.expects):
            assert row.expects[mode].word == "nothing", row.name
        ticket = row.expects.get("ticket", NOTHING)
        assert set(ticket.causes) <= {"wiped", "evicted", "moved"}, row.name


@pytest.mark.parametrize(
    ("expected", "trials", "outcome", "says"),
    [
        (NOTHING, [trial()], "held", ""),
        (NOTHING, [trial(), trial(lost=2, wiped=2)], "broken", "2 lost"),
        (WIPED, [trial(lost=2, wiped=2), trial()], "held", ""),
        (WIPED, [trial(), trial()], "broken", "nothing was lost"),
        (WIPED, [trial(lost=3, wiped=2, cold_reset=1)], "broken", "cold-reset 1"),
        (WIPED, [trial(lost=1, unexplained=1)], "broken", "no certificate"),
        (WIPED, [trial(fault=MISSED)], "inconclusive", "did not meet its target"),
        (Expectation("may-lose", ("wiped",)), [trial()], "held", ""),
    ],
)
def test_a_cell_is_judged_by_the_trials_in_which_the_fault_hit(
    expected: Expectation, trials: list[ModeResult], outcome: str, says: str
):
    whole = msgspec.structs.replace(trials[0], trials=tuple(trials))
    cell = judge(expected, whole)
    assert cell.outcome == outcome
    assert says in cell.because


def test_a_voter_who_is_counted_twice_is_expected_of_no_fault():
    twice = mode_result(accounts={"overvotes": 3}, faults=(HIT,))
    for expected, says in ((NOTHING, "3 overvotes"), (WIPED, "3 overvotes, which is expected of")):
        assert says in judge(expected, twice).because


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ('name = "x"\nwhy = "Y."\nfaults = ["wype@1s"]\ndirect = "nothing"', "did you mean 'wipe'"),
        ('name = "x"\nwhy = "Y."\ndirct = "nothing"', "did you mean 'direct'"),
        ('name = "x"\nwhy = "Y."\ndirect = "nothink"', "did you mean 'nothing'"),
        ('name = "x"\nwhy = "Y."\ndirect = "loses"', "needs them"),
        ('name = "x"\ndirect = "nothing"', "a sentence why"),
    ],
)
def test_a_row_that_cannot_be_is_named(tmp_path: Path, row: str, says: str):
    table = tmp_path / "table.toml"
    table.write_text(f'[plan]\nscenario = "matrix"\n[[row]]\n{row}\n')
    with pytest.raises(PlanError) as refused:
        read_table(table)
    assert says in str(refused.value)
    assert "row 'x'" in str(refused.value)


def test_a_pattern_that_fits_no_row_names_the_nearest():
    with pytest.raises(PlanError, match="did you mean 'wipe'"):
        chosen(read_table(), ("wip",), ())


def test_a_mode_that_no_row_names_is_refused_with_the_nearest():
    with pytest.raises(PlanError, match="did you mean 'ticket'"):
        chosen(read_table(), (), ("tiket",))


def test_a_campaign_expects_what_a_mode_promises_and_is_drawn_by_its_seed_alone():
    rows = random_rows(base_plan(), ("ticket", "classic"), 40, 1)
    assert len({row.name for row in rows}) == 80
    assert random_rows(base_plan(), ("ticket",), 1, 7)[0] == rows[12]
    for row in rows:
        (mode,) = row.expects
        forgotten = any(amounts_to(f.kind, target_of(f)) in EXCUSED for f in row.plan.faults)
        promised = mode == "ticket" and not forgotten
        assert (row.expects[mode].word == "nothing") is promised, row.name
    assert {row.expects.get("ticket", NOTHING).word for row in rows} == {"nothing", "may-lose"}


def test_a_campaign_counts_trials_in_which_a_fault_missed():
    missed = trial(fault=MISSED, lost=1, wiped=1)
    assert judge(NOTHING, missed).outcome == "broken"
    assert judge(NOTHING, trial(fault=MISSED)).outcome == "inconclusive"
    assert judge(NOTHING, trial(fault=MISSED), must_hit=False).outcome == "held"
    assert judge(NOTHING, missed, must_hit=False).outcome == "broken"


def test_a_campaign_draws_its_own_rows():
    with pytest.raises(PlanError, match="draws its own rows"):
        CliRunner().invoke(
            matrix, ["--campaign", "2", "--only", "wipe"], catch_exceptions=False,
            standalone_mode=False,
        )  # fmt: skip


@pytest.mark.services
def test_a_sample_is_played_judged_and_not_played_again(tmp_path: Path):
    arguments = ["--only", "wipe", "--modes", "direct,ticket", "--repeat", "1"]
    arguments += ["--out", str(tmp_path / "matrix"), "--json"]
    first = CliRunner().invoke(matrix, arguments, standalone_mode=False)
    result = json.loads((tmp_path / "matrix" / "matrix.json").read_bytes())
    (row,) = result["rows"]
    assert first.return_value == Exit.OK, row
    assert row["cells"]["direct"]["outcome"] == "held"
    assert row["cells"]["ticket"]["causes"]["wiped"] == row["cells"]["ticket"]["lost"][0] > 0
    page = (tmp_path / "matrix" / "index.html").read_text()
    assert "As expected" in page
    assert (tmp_path / "matrix" / row["run"]).is_file()
    again = CliRunner().invoke(matrix, arguments, standalone_mode=False)
    assert again.return_value == Exit.OK
    assert "1 of 1 rows were played before" in again.output
