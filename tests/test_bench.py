"""What `make bench` makes of its rounds and names; the figures themselves are no test's matter."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

import bench.__main__ as program
from bench.figure import Figure, Measurement, Target, figure
from bench.rounds import in_turn
from harness.errors import Exit, ServiceError

ROUNDS = [(8.0, 2.0), (3.0, 2.0), (30.0, 10.0), (1.0, 1.0), (100.0, 1.0)]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "results.json"
    monkeypatch.setattr(program, "RESULTS", path)
    return path


def names_in(results: Path) -> list[str]:
    return [entry["name"] for entry in msgspec.json.decode(results.read_bytes())]


def measuring(*names: str) -> Measurement:
    return Measurement(names, lambda: [figure(name, "s", "other", ROUNDS) for name in names])


def test_value_against_and_ratio_are_of_the_round_with_the_median_ratio() -> None:
    found = figure("a.b", "s", "a peer", ROUNDS, Target("ratio", "<=", 3))
    assert (found.value, found.against, found.ratio) == (30, "a peer: 10 s", 3)
    assert (found.ratio_quartiles, found.rounds) == ((1.5, 4), 5)
    assert (found.target, found.met) == ("ratio <= 3", True)
    assert figure("a.b", "s", "a peer", ROUNDS, Target("value", "<", 30)).met is False


def test_measurements_alternate_and_the_first_pair_is_not_counted() -> None:
    order: list[str] = []
    pairs = in_turn(lambda: order.append("a"), lambda: order.append("b"), 3)
    assert "".join(order) == "abbaabba"
    assert len(pairs) == 3


def test_every_figure_is_named_after_its_module_and_found_by_either_name() -> None:
    measurements = program.known()
    names = [name for each in measurements for name in each.names]
    assert len(names) == len(set(names))
    for module in {name.partition(".")[0] for name in names}:
        of_module = [name for name in names if name.startswith(f"{module}.")]
        assert len(program.chosen([module], measurements)) <= len(of_module)
        for name in of_module:
            (one,) = program.chosen([name], measurements)
            assert name in one.names
    assert program.chosen([], measurements) == measurements
    assert Path(program.HERE, f"bench_{names[0].partition('.')[0]}.py").exists()


def test_an_unknown_name_is_refused_with_those_that_are_known(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["site.jurnal"]) == Exit.USAGE
    assert "no site.jurnal; known: audit.time, " in capsys.readouterr().err
    assert not results.exists()


def test_what_was_measured_is_kept_although_the_next_one_fails(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks() -> Sequence[Figure]:
        raise ServiceError("no memcached")

    old = [{"name": "b.one", "value": 7}, {"name": "gone.one", "value": 7}]
    results.write_bytes(msgspec.json.encode(old))
    every = [measuring("a.one", "a.two"), Measurement(("b.one",), breaks), measuring("c.one")]
    monkeypatch.setattr(program, "known", lambda: every)
    assert program.main([]) == Exit.FAILED
    assert names_in(results) == ["a.one", "a.two", "b.one", "c.one"]
    assert "bench: no memcached" in capsys.readouterr().err


def test_what_was_measured_is_kept_although_the_bench_itself_breaks(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks() -> Sequence[Figure]:
        raise KeyError(0)

    every = [measuring("a.one"), Measurement(("b.one",), breaks)]
    monkeypatch.setattr(program, "known", lambda: every)
    with pytest.raises(KeyError):
        program.main([])
    assert names_in(results) == ["a.one"]
