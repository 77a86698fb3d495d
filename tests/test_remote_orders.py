"""What goes to other machines and what comes: addresses that they reach, orders to be played."""

import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from harness.cli import pollstorm
from harness.errors import PlanError, ServiceError
from harness.load.meeting import require_free, within_reach
from harness.load.order import MOST_ORDER_BYTES, SLOWEST_BYTES_PER_S, shard_of, transfer_s
from harness.load.request import ALLOW_TARGET
from harness.load.shard import Shard
from harness.plan import Arrivals, Plan, Site, TargetPlan, Voters

SHARD = Shard(
    plan=Plan(scenario="test"),
    generator=1,
    generators=2,
    host="192.0.2.1",
    port=80,
    ledger_folder="/",
    ready_file="/etc/passwd",
    start_file="../start",
    report_file="",
)


def plan_of(listen: str, *, site: str = "127.0.0.1", target: str = "") -> Plan:
    return Plan(
        scenario="test",
        voters=Voters(master=listen),
        site=Site(host=site),
        target=TargetPlan(url=target),
    )


@pytest.mark.parametrize(
    ("plan", "host"),
    [
        (plan_of(""), "127.0.0.1"),
        (plan_of("127.0.0.1:5557"), "127.0.0.1"),
        (plan_of("192.0.2.1:5557"), "192.0.2.1"),
        (plan_of("192.0.2.1:5557", site="192.0.2.9"), "192.0.2.9"),
        (plan_of("192.0.2.1:5557", site="0.0.0.0"), "192.0.2.1"),
        (plan_of("0.0.0.0:5557", site="192.0.2.9"), "192.0.2.9"),
        (plan_of("192.0.2.1:5557", target="http://192.0.2.7"), "127.0.0.1"),
    ],
)
def test_the_site_stands_where_its_workers_reach_it(plan: Plan, host: str) -> None:
    assert within_reach(plan).site.host == host


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        (plan_of("0.0.0.0:5557"), "does not say where workers find the site"),
        (plan_of("192.0.2.1:5557", target="http://127.0.0.1:80"), "on each worker's machine"),
        (plan_of("192.0.2.1:5557", target="http://0.0.0.0:80"), "on each worker's machine"),
    ],
)
def test_an_address_that_is_another_on_each_machine_is_refused(plan: Plan, why: str) -> None:
    with pytest.raises(PlanError, match=why):
        within_reach(plan)


def test_a_study_of_another_server_says_before_a_folder_is_made_that_its_ceiling_has_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ALLOW_TARGET, "192.0.2.7")
    out = tmp_path / "study"
    flags = ["--target", "http://192.0.2.7", "--remote", "2", "--listen", "0.0.0.0:5557"]
    with pytest.raises(PlanError, match="find the site of this machine"):
        CliRunner().invoke(
            pollstorm,
            ["capacity", *flags, "--out", str(out)],
            catch_exceptions=False,
            standalone_mode=False,
        )
    assert not out.exists()


def test_an_address_at_which_nobody_can_be_waited_for_is_one_line_before_anything_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServiceError, match=f"127.0.0.1:{port}: .* another run may listen"):
            require_free(plan_of(f"127.0.0.1:{port}"))
    require_free(plan_of(f"127.0.0.1:{port}"))
    with pytest.raises(ServiceError, match="takes an address of this machine"):
        require_free(plan_of("192.0.2.1:5557"))


def changed(**changes: Any) -> bytes:
    return msgspec.json.encode(msgspec.to_builtins(SHARD) | changes)


def planned(**changes: Any) -> bytes:
    return changed(plan=msgspec.to_builtins(SHARD.plan) | changes)


def test_a_share_comes_as_it_was_sent() -> None:
    assert shard_of({"shard": msgspec.json.encode(SHARD)}) == SHARD


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (None, "no share"),
        ({}, "no share"),
        ({"shard": "{}"}, "no share"),
        ({"shard": b"\x80\x04\x95"}, "malformed"),
        ({"shard": b" " * (MOST_ORDER_BYTES + 1)}, "bytes"),
        ({"shard": changed(extra=1)}, "unknown field"),
        ({"shard": changed(generator=0)}, "generator"),
        ({"shard": changed(generator=3)}, "share 3 of 2"),
        ({"shard": changed(port=0)}, "port"),
        ({"shard": changed(void_for_s=1e9)}, "void_for_s"),
        ({"shard": planned(scenario="../../etc")}, "scenario"),
        ({"shard": planned(poll={"name": "../x y"})}, "poll"),
        ({"shard": planned(target={"vote_path": "/\r\nHost: x"})}, "vote_path"),
        ({"shard": planned(arrivals={"trickle_per_s": 1e9})}, "at most"),
    ],
)
def test_an_order_that_is_none_is_refused(data: Any, why: str) -> None:
    with pytest.raises(PlanError, match=why):
        shard_of(data)


def test_large_ledgers_may_travel_as_long_as_a_slow_link_takes() -> None:
    small = Plan(scenario="test", arrivals=Arrivals(trickle_per_s=1))
    large = msgspec.structs.replace(
        small, duration_s=1000.0, arrivals=Arrivals(trickle_per_s=1000, results_per_vote=1.0)
    )
    assert transfer_s(large) - transfer_s(small) == pytest.approx(
        2e6 * 64 / SLOWEST_BYTES_PER_S, rel=0.01
    )
