"""How faults are drawn over time and told, above all one that missed."""

from types import SimpleNamespace

from matplotlib.figure import Figure

from harness.report.figures import shade
from harness.report.sentences import fault_sentence, unplanned
from harness.result import FaultRecord
from tests.results import mode_result, run_result

HIT = FaultRecord(kind="kill", target="flusher", start_s=2.0, end_s=3.0, hit=True)
MISSED = FaultRecord(
    kind="kill", target="site", start_s=6.0, end_s=9.0, hit=False, detail="nobody came to the step"
)


def test_a_fault_that_hit_is_a_span_and_one_that_missed_a_dotted_line():
    axes = Figure().subplots()
    shade(axes, SimpleNamespace(faults=(HIT, MISSED)), end_s=12.0)
    (span,) = axes.patches
    assert (span.get_x(), span.get_width()) == (2.0, 1.0)
    assert [line.get_linestyle() for line in axes.lines] == ["-", ":"]
    assert [text.get_text() for text in axes.texts] == ["F1 kill", "F2 missed"]


def test_what_happened_after_the_axis_has_ended_is_not_drawn_and_is_told():
    late = FaultRecord(
        kind="wipe", target="memcached", start_s=65.0, end_s=65.0, hit=True, planned=False,
        detail="memcached at a:1 is gone, and not by this run",
    )  # fmt: skip
    axes = Figure().subplots()
    shade(axes, SimpleNamespace(faults=(HIT, late)), end_s=5.0)
    assert len(axes.lines) == len(axes.texts) == 1
    result = run_result({"owned": mode_result(faults=(HIT, late))})
    assert unplanned(result) == [
        "owned: memcached at a:1 is gone, and not by this run, 65.0 s after the load’s start."
    ]


def test_a_fault_that_missed_says_so_and_why():
    assert fault_sentence(HIT) == "kill of flusher at 2.00 s for 1.00 s."
    assert fault_sentence(MISSED) == "kill of site at 6.00 s missed: nobody came to the step."
