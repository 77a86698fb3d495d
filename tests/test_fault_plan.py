"""How a fault is written, and what is said about one that cannot be."""

from pathlib import Path

import pytest

from harness.errors import PlanError
from harness.fault import KINDS, STEPS, Fault, check_fault, describe, parse_fault, target_of


def test_a_line_is_the_table_that_it_would_be_in_toml():
    assert parse_fault("pause@7.5s target=lock-holder for=1200ms modes=classic,owned") == {
        "kind": "pause",
        "at_s": 7.5,
        "target": "lock-holder",
        "for_s": 1.2,
        "modes": ["classic", "owned"],
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pause", "write KIND@TIME"),
        ("pause@soon", "'soon' is no time"),
        ("pause@5s fro=1s", "did you mean 'for'?"),
        ("pause@5s for=1s for=2s", "for is given twice"),
        ("pause@5s for=long", "'long' is no time"),
        ("pause@5s kind=wipe", "no key 'kind'"),
    ],
)
def test_a_line_that_cannot_be_read_says_what_to_write(text: str, says: str):
    with pytest.raises(PlanError) as refused:
        parse_fault(text)
    assert says in str(refused.value)
    assert repr(text) in str(refused.value)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(kind="wype", at_s=1), "did you mean 'wipe'?"),
        (Fault(kind="wipe", at_s=1, target="memcache"), "did you mean 'memcached'?"),
        (Fault(kind="wipe", at_s=1, for_s=1), "over at once"),
        (Fault(kind="pause", at_s=1), "needs a time that it lasts"),
        (Fault(kind="wipe", at_s=1, step="before-read"), "cannot be armed at a step"),
        (Fault(kind="latency", at_s=1, for_s=1, delay_s=0), "delay_s must be above 0"),
        (Fault(kind="drop-reply", at_s=1, for_s=1, share=0), "share must be above 0"),
    ],
)
def test_what_a_kind_cannot_have_is_refused(fault: Fault, says: str):
    with pytest.raises(PlanError) as refused:
        check_fault(fault, "here")
    assert says in str(refused.value)
    assert str(refused.value).startswith("here")


def test_what_is_described_can_be_read_again():
    fault = Fault(kind="pause", at_s=7.5, target="lock-holder", for_s=1.2, modes=("classic",))
    assert describe(fault) == "pause@7.5s target=lock-holder for=1.2s modes=classic"
    read = parse_fault(describe(fault))
    assert Fault(**read | {"modes": tuple(read["modes"])}) == fault


def test_the_first_target_is_meant_when_none_is_named():
    for name, kind in KINDS.items():
        assert target_of(Fault(kind=name, at_s=0)) == kind.targets[0]


def test_every_kind_target_and_step_is_explained():
    page = (Path(__file__).parent.parent / "docs" / "faults.md").read_text(encoding="utf-8")
    for name, kind in KINDS.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` | ")][:1]
        assert row.count("|") == 5, row
        assert name in ("kill",) or all(f"`{target}`" in row for target in kind.targets), row
    for step in (step for steps in STEPS.values() for step in steps):
        assert f"| `{step}` |" in page
