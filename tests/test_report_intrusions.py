"""Who was inside beside whom: which holds are told, and the figure of the longest."""

from harness.report.intrusions import Intrusion, draw_longest, is_telling

PATIENCE_MS = 1000.0


def hold(at_s: float, hold_ms: float | None, kind: str = "clean", **changes: object) -> Intrusion:
    row = Intrusion(at_s, f"site {at_s:g}/1", kind, 0.1, hold_ms, "1/2", ())
    return row._replace(**changes)


STALLED = hold(7.5, 1202.0, stale_at_s=(8.7,))
TAKEN = hold(8.6, 0.2, "takeover", waited_ms=1071.0)
HARMLESS = hold(8.65, 0.2)
LATER = hold(99.0, 0.2, "cold")


def test_a_hold_is_told_that_was_no_clean_one_or_did_harm_or_outlasted_patience():
    rows = [STALLED, TAKEN, HARMLESS, LATER, hold(3.0, 1001.0), hold(3.0, None)]
    assert [is_telling(row, PATIENCE_MS) for row in rows] == [True, True, False, True, True, False]
    assert not is_telling(hold(3.0, 1001.0), None)


def test_the_longest_hold_is_drawn_with_those_who_came_in_beside_it():
    drawn = draw_longest("classic", [STALLED, TAKEN, LATER], PATIENCE_MS)
    assert drawn is not None
    for text in ("site 7.5/1", "site 8.6/1", "patience ends", "inside, takeover", "stale write"):
        assert text in drawn.svg
    assert "site 99/1" not in drawn.svg
    assert "inside, cold" not in drawn.svg


def test_without_a_hold_that_outlasted_patience_there_is_no_figure():
    assert draw_longest("classic", [TAKEN, LATER], PATIENCE_MS) is None
    assert draw_longest("classic", [STALLED], None) is None
