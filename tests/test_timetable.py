"""The timetable has a record for each fault, whatever becomes of it."""

import threading
from time import monotonic_ns
from types import SimpleNamespace
from typing import Any

import pytest

from harness.fault import Fault
from harness.faults import timetable
from harness.faults.timetable import Timetable

WIPE = Fault(kind="wipe", at_s=0.0)


def reach() -> Any:
    return SimpleNamespace(ended=threading.Event())


def test_what_goes_wrong_in_a_fault_is_its_detail(monkeypatch: pytest.MonkeyPatch):
    def broken(_fault: Fault, _reach: Any) -> None:
        raise ConnectionResetError("memcached went away")

    monkeypatch.setitem(timetable.START, "wipe", broken)
    told: list[str] = []
    table = Timetable((WIPE,), reach(), lambda event, _: told.append(event))
    table.begin(monotonic_ns())
    table._threads[0].join(5.0)
    (record,) = table.heal()
    assert not record.hit
    assert record.detail == "memcached went away"
    assert told == ["fault begins", "fault is over"]


def test_a_fault_that_does_not_end_is_recorded_all_the_same(monkeypatch: pytest.MonkeyPatch):
    never, begun = threading.Event(), threading.Event()

    def stuck(_fault: Fault, _reach: Any) -> None:
        begun.set()
        never.wait(30.0)

    monkeypatch.setitem(timetable.START, "wipe", stuck)
    monkeypatch.setattr(timetable, "END_S", 0.01)
    table = Timetable((WIPE,), reach())
    table.begin(monotonic_ns())
    assert begun.wait(5.0)
    (record,) = table.heal()
    never.set()
    table._threads[0].join(5.0)
    assert not record.hit
    assert "what it did may last" in record.detail


def test_faults_of_a_load_that_never_began_have_no_record():
    assert Timetable((WIPE,), reach()).heal() == ()
