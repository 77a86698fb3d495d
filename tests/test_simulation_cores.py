"""Cores, interpreters and queues of the simulator, against what theory and hand-made cases say."""

import numpy as np
import pytest

from harness.simulation.cores import SLICE_NS, Cores, Gil, Thread
from harness.simulation.daemons import CommitLog
from harness.simulation.events import Events

US = 1_000


class Burst(Thread):
    """Computes once, and notes from when to when."""

    __slots__ = ("began_ns", "burst_ns", "ended_ns")

    def __init__(self, cores: Cores, burst_ns: int, gil: Gil | None = None) -> None:
        super().__init__(cores, gil)
        self.burst_ns = burst_ns
        self.began_ns = self.ended_ns = -1

    def granted(self, start_ns: int) -> int:
        self.began_ns = start_ns
        return self.burst_ns

    def computed(self) -> int | None:
        self.ended_ns = self.cores.events.now_ns
        return None


def world(cores: int, *, wake_ns: int = 0, switch_ns: int = 0) -> tuple[Events, Cores]:
    events = Events()
    return events, Cores(events, cores, lambda: wake_ns, switch_ns)


def nothing_is_left(events: Events) -> bool:
    return events.run(10**18) == 0


def played(events: Events, *threads: Thread) -> None:
    for thread in threads:
        thread.wake()
    events.run(10**12)
    assert nothing_is_left(events)


def test_what_happens_at_one_time_happens_in_the_order_in_which_it_was_asked_for() -> None:
    events = Events()
    seen: list[str] = []
    events.at(5, lambda: seen.append("b"))
    events.at(3, lambda: seen.append("a"))
    events.at(5, lambda: seen.append("c"))
    assert events.run(10) == 3
    assert seen == ["a", "b", "c"]
    assert events.now_ns == 5
    assert nothing_is_left(events)


def test_two_processes_compute_at_once_on_two_cores_and_in_turn_on_one() -> None:
    events, cores = world(2)
    one, two = Burst(cores, 10 * US, Gil()), Burst(cores, 10 * US, Gil())
    played(events, one, two)
    assert one.ended_ns == two.ended_ns == 10 * US

    events, cores = world(1)
    one, two = Burst(cores, 10 * US, Gil()), Burst(cores, 10 * US, Gil())
    played(events, one, two)
    assert (one.ended_ns, two.ended_ns) == (10 * US, 20 * US)


def test_two_threads_of_one_interpreter_do_not_compute_at_once_on_two_cores() -> None:
    events, cores = world(2)
    gil = Gil()
    one, two = Burst(cores, 10 * US, gil), Burst(cores, 10 * US, gil)
    played(events, one, two)
    assert (one.ended_ns, two.began_ns, two.ended_ns) == (10 * US, 10 * US, 20 * US)


def test_an_idle_core_takes_its_time_to_wake_and_a_busy_one_to_switch() -> None:
    events, cores = world(1, wake_ns=7 * US, switch_ns=2 * US)
    one, two = Burst(cores, 10 * US), Burst(cores, 10 * US)
    played(events, one, two)
    assert one.began_ns == 7 * US
    assert two.began_ns == 7 * US + 10 * US + 2 * US


def test_a_long_burst_lets_others_go_first_at_the_end_of_its_slice() -> None:
    events, cores = world(1)
    long, short = Burst(cores, 2 * SLICE_NS), Burst(cores, 10 * US)
    played(events, long, short)
    assert short.began_ns == SLICE_NS
    assert long.ended_ns == 2 * SLICE_NS + 10 * US


def test_a_long_burst_that_nobody_waits_for_takes_what_it_takes() -> None:
    events, cores = world(1)
    long = Burst(cores, 5 * SLICE_NS)
    played(events, long)
    assert long.ended_ns == 5 * SLICE_NS


def test_commits_that_come_while_the_disk_is_busy_are_made_durable_together() -> None:
    events = Events()
    log = CommitLog(events, lambda: 100 * US, 0)
    ended: dict[str, int] = {}

    def commit(name: str) -> None:
        log.commit(lambda: ended.setdefault(name, events.now_ns))

    for name, at_us in (("a", 0), ("b", 10), ("c", 90), ("d", 150)):
        events.at(at_us * US, lambda name=name: commit(name))  # type: ignore[misc]
    events.run(10**9)
    assert ended == {"a": 100 * US, "b": 200 * US, "c": 200 * US, "d": 300 * US}


class Customers(Thread):
    """One server whose customers come and take their time as drawn; notes how long each stayed."""

    __slots__ = ("arrivals", "served", "service", "stayed", "waiting")

    def __init__(self, cores: Cores, arrivals: list[int], service: list[int]) -> None:
        super().__init__(cores)
        self.arrivals, self.service = arrivals, service
        self.served = self.waiting = 0
        self.stayed: list[int] = []
        for at_ns in arrivals:
            cores.events.at(at_ns, self.come)

    def come(self) -> None:
        self.waiting += 1
        if self.waiting == 1:
            self.wake()

    def granted(self, start_ns: int) -> int:  # noqa: ARG002
        return self.service[self.served]

    def computed(self) -> int | None:
        self.stayed.append(self.cores.events.now_ns - self.arrivals[self.served])
        self.served += 1
        self.waiting -= 1
        return self.service[self.served] if self.waiting else None


@pytest.mark.parametrize(
    ("exponential", "factor"), [(True, 1.0), (False, 0.5)], ids=["M/M/1", "M/D/1"]
)
def test_a_single_server_queue_is_as_long_as_theory_says(exponential: bool, factor: float) -> None:
    """Pollaczek and Khinchine: a mean wait of rho / (1 - rho) services, half if all are equal.

    At rho = 0.7 the waits of neighbours are alike over some (1 - rho)^-2 = 11 customers and longer;
    100,000 customers are worth 2,000 and more independent ones, whose mean varies by 3 %. Four such
    deviations are allowed.
    """
    random = np.random.default_rng(7)
    customers, mean_ns, load = 100_000, 50 * US, 0.7
    arrivals = np.cumsum(random.exponential(mean_ns / load, customers)).astype(int).tolist()
    service = (
        random.exponential(mean_ns, customers).astype(int).tolist()
        if exponential
        else [mean_ns] * customers
    )
    events, cores = world(1)
    server = Customers(cores, arrivals, service)
    events.run(10**15)
    assert server.served == customers
    waited_ns = np.mean(server.stayed) - np.mean(service)
    assert waited_ns == pytest.approx(factor * mean_ns * load / (1 - load), rel=0.12)


def test_two_cores_serve_two_queues_as_fast_as_each_alone() -> None:
    events, cores = world(2)
    arrivals, service = [0, 0, 0], [10 * US] * 3
    one, two = Customers(cores, arrivals, service), Customers(cores, arrivals, service)
    events.run(10**9)
    assert one.stayed == two.stayed == [10 * US, 20 * US, 30 * US]
