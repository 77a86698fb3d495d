"""Faults of the network over real services: what promises to lose nothing loses nothing."""

from pathlib import Path
from time import sleep

import msgspec
import pytest

from harness.cache.breaker import OPEN_S
from harness.errors import PlanError
from harness.fault import BETWEEN, Fault, check_fault, parse_fault
from harness.faults.fault import Reach
from harness.faults.network import trouble_of
from harness.modes.mode import find_mode
from harness.plan import DatabasePlan, MemcachedPlan, Plan
from harness.services.processes import Supervisor
from harness.services.proxies import targets_between
from harness.services.stack import start_stack
from harness.services.targets import Existing
from tests.test_faults_processes import PLAN, Voters, suffer
from tests.test_services_stack import ballots

FOR_S = 0.4
QUICK = msgspec.structs.replace(
    PLAN,
    memcached=MemcachedPlan(timeout_s=0.15),
    database=DatabasePlan(timeout_s=0.3),
)


def faults_at(target: str) -> list[Fault]:
    """All kinds, one after the other; of those that hit a share or a direction, each."""
    some = [
        Fault(kind=kind, target=target, at_s=0.0, for_s=FOR_S)
        for kind in BETWEEN
        if kind not in ("drop-request", "drop-reply")
    ]
    some += [
        Fault(kind=kind, target=target, at_s=0.0, for_s=FOR_S, share=share)
        for kind in ("drop-request", "drop-reply")
        for share in (None, 0.3)
    ]
    return [*some, Fault(kind="cut", target=target, at_s=0.0, for_s=FOR_S, direction="from")]


@pytest.mark.services
@pytest.mark.parametrize(
    ("mode", "targets"),
    [
        ("direct", ("mariadb",)),
        ("cached", ("mariadb",)),
        ("ticket", ("memcached", "mariadb")),
        ("mirrored", ("memcached-2",)),
    ],
)
def test_a_mode_that_promises_loses_nothing_whatever_the_network_does(
    mode: str, targets: tuple[str, ...], supervisor: Supervisor, tmp_path: Path
):
    faults = [fault for target in targets for fault in faults_at(target)]
    one_each = tuple(faults_at(target)[0] for target in targets)
    plan = msgspec.structs.replace(QUICK, faults=one_each)
    with start_stack(supervisor, plan, find_mode(mode), tmp_path, tmp_path, Existing()) as stack:
        assert set(stack.proxies) == set(targets)
        between = stack.deployment.database != stack.servers.database
        assert between == ("mariadb" in targets)
        assert Reach(stack).database == stack.servers.database
        voters = Voters(stack)
        for before, fault in zip([None, *faults], faults, strict=False):
            if before and before.target != "mariadb":
                sleep(OPEN_S)  # until memcached is asked again
            voters.vote()
            (record,) = suffer(stack, voters, fault)
            assert record.hit, record
            assert record.end_s - record.start_s < FOR_S + 5
        voters.vote()
        assert stack.drain()
        kept = ballots(stack.servers.database or "")
        assert voters.acknowledged <= kept <= voters.acknowledged + voters.unknown
        assert voters.acknowledged > len(faults)


@pytest.mark.services
def test_classic_goes_to_its_database_while_memcached_refuses_connections(
    supervisor: Supervisor, tmp_path: Path
):
    fault = Fault(kind="reset", target="memcached", at_s=0.0, for_s=FOR_S)
    plan = msgspec.structs.replace(QUICK, faults=(fault,))
    with start_stack(
        supervisor, plan, find_mode("classic"), tmp_path, tmp_path, Existing()
    ) as stack:
        voters = Voters(stack)
        voters.vote()
        (record,) = suffer(stack, voters, fault)
        assert record.hit
        assert "connections reset" in record.detail
        voters.vote()
        assert stack.drain()
        assert ballots(stack.servers.database or "") > 0


@pytest.mark.services
def test_a_fault_that_nothing_came_by_has_missed(supervisor: Supervisor, tmp_path: Path):
    class Nobody(Voters):
        def vote(self) -> None:
            sleep(0.05)

    faults = faults_at("mariadb")[-1:]
    plan = msgspec.structs.replace(QUICK, faults=tuple(faults))
    with start_stack(
        supervisor, plan, find_mode("direct"), tmp_path, tmp_path, Existing()
    ) as stack:
        (record,) = suffer(stack, Nobody(stack), *faults)
        assert (record.hit, record.detail) == (False, "did not meet its target")


@pytest.mark.services
def test_without_a_fault_of_the_network_nothing_stands_in_the_way(
    supervisor: Supervisor, tmp_path: Path
):
    with start_stack(
        supervisor, QUICK, find_mode("direct"), tmp_path, tmp_path, Existing()
    ) as stack:
        assert stack.proxies == {}
        assert stack.servers.memcached == stack.deployment.memcached
        assert stack.servers.database == stack.deployment.database
        Reach(stack)
        fault = Fault(kind="stall", target="mariadb", at_s=0.0, for_s=0.1)
        (record,) = suffer(stack, Voters(stack), fault)
        assert not record.hit
        assert record.detail.startswith("no proxy stands before mariadb")


def test_a_proxy_stands_only_before_what_a_fault_of_this_mode_names():
    plan = Plan(
        scenario="test",
        faults=(
            Fault(kind="stall", target="mariadb", at_s=1, for_s=1, modes=("classic",)),
            Fault(kind="reset", at_s=1),
            Fault(kind="wipe", target="memcached-2", at_s=1),
        ),
    )
    assert targets_between(plan, "classic") == {"mariadb", "memcached"}
    assert targets_between(plan, "ticket") == {"memcached"}


def test_the_seed_and_the_fault_say_which_requests_are_hit():
    fault = Fault(kind="drop-reply", at_s=1, for_s=1, share=0.2)
    other = msgspec.structs.replace(fault, at_s=2)
    assert trouble_of(fault, 1) == trouble_of(fault, 1)
    assert (
        len({trouble_of(fault, 1).seed, trouble_of(fault, 2).seed, trouble_of(other, 1).seed}) == 3
    )


def test_options_are_read_from_a_line_and_belong_to_their_kinds():
    read = parse_fault("latency@5s target=mariadb for=2s delay=20ms jitter=5ms")
    assert (read["delay_s"], read["jitter_s"]) == (0.02, 0.005)
    assert parse_fault("cut@5s for=2s direction=from")["direction"] == "from"
    assert parse_fault("drop-reply@5s for=2s share=0.25")["share"] == 0.25
    for wrong in (
        Fault(kind="stall", at_s=1, for_s=1, delay_s=1),
        Fault(kind="latency", at_s=1, for_s=1, share=0.5),
        Fault(kind="latency", at_s=1),
    ):
        with pytest.raises(PlanError):
            check_fault(wrong, "here")
