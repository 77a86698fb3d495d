"""Numbers that are none: refused at the flag, whatever the range that it is compared with."""

import pytest
from click.testing import CliRunner

from harness.cli import pollstorm
from harness.errors import Exit


@pytest.mark.parametrize("number", ["nan", "inf"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["worker", "--master", "127.0.0.1:1", "--wait"],
        ["run", "steady-trickle", "--duration"],
        ["run", "controversial-poll", "--peak"],
        ["check", "--calibrate", "--rate"],
    ],
)
def test_a_number_that_is_not_finite_is_refused_by_its_flag(
    arguments: list[str], number: str
) -> None:
    found = CliRunner().invoke(pollstorm, [*arguments, number])
    assert found.exit_code == Exit.USAGE
    assert f"'{arguments[-1]}': {number} is" in found.output
