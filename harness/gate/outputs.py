"""What a check says to people and to CI servers: lines, Markdown, JUnit XML, annotations."""

import re
from collections.abc import Iterator
from typing import Final
from xml.etree import ElementTree as Xml

from harness.gate.outcome import CheckResult, ModeCheck, Timed, Verdict
from harness.report.notation import number

NOT_IN_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
MOST_ANNOTATIONS: Final = 10  # that GitHub shows of one step
LEVELS: Final = {"failed": "error", "inconclusive": "warning"}
MARKS: Final = {"passed": "✓", "failed": "✗", "inconclusive": "?"}


def change(timed: Timed) -> str:
    """`+1.2 % (−0.3 to +2.6)`."""
    return f"{_percent(timed.change)} % ({_percent(timed.low)} to {_percent(timed.high)})"


def sentence(result: CheckResult) -> str:
    """The whole check in one sentence."""
    candidate = f"{result.candidate.name} ({result.candidate.commit})"
    baseline = f"{result.baseline.name} ({result.baseline.commit})"
    said = {
        "passed": f"{candidate} is no worse than {baseline}.",
        "failed": f"{candidate} is worse than {baseline}.",
        "inconclusive": f"Whether {candidate} is worse than {baseline} could not be decided.",
    }
    return said[result.verdict]


def markdown(result: CheckResult) -> str:
    """For a step's summary."""
    lines = [f"### {MARKS[result.verdict]} pollstorm check: {result.verdict}", ""]
    lines += [sentence(result), ""]
    lines += [
        "| mode | figure | baseline | candidate | change | margin | |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    for mode, found in result.modes.items():
        lines += [f"| {mode} | {' | '.join(row)} |" for row in rows(found)]
    lines += ["", *(f"* **{about}**: {reason}" for about, reason, _ in reasons(result))]
    lines += ["", f"Took {result.took_s:.0f} s. Repeat: `{result.command}`", ""]
    return "\n".join(lines)


def rows(found: ModeCheck) -> Iterator[tuple[str, str, str, str, str, str]]:
    """Figure, baseline, candidate, change, margin and remark of each."""
    for name, count in found.counts.items():
        yield (
            name.replace("_", " "), f"{count.baseline:g}", f"{count.candidate:g}",
            f"{count.candidate - count.baseline:+g}", f"+{count.margin:g}",
            "worse" if count.worse else "",
        )  # fmt: skip
    votes = [found.votes[side] for side in ("baseline", "candidate")]
    before, now = (each.sent - each.acknowledged for each in votes)
    yield "refused votes", f"{before}", f"{now}", f"{now - before:+}", "", ""
    for name in ("lost", "doubled"):
        before, now = (getattr(each, name) for each in votes)
        remark = ("worse" if found.promises else "promises nothing") if now else ""
        yield f"{name} votes", f"{before}", f"{now}", f"{now - before:+}", "0", remark
    for name, timed in found.timed.items():
        figure = f"{name} ms" if timed.decides else f"{name} ms (advice)"
        yield (
            figure, number(timed.baseline_ms), number(timed.candidate_ms), change(timed),
            f"+{timed.margin:.0%}", timed.judgement,
        )  # fmt: skip


def reasons(result: CheckResult) -> Iterator[tuple[str, str, Verdict]]:
    """Why it is not passed: the mode or `check`, a sentence, and what it makes of the verdict."""
    for mode, found in result.modes.items():
        yield from ((mode, reason, found.verdict) for reason in found.reasons)
    if result.stopped_by:
        yield "check", f"It was stopped: {result.stopped_by}.", "inconclusive"


def annotations(result: CheckResult) -> list[str]:
    """GitHub's workflow commands, one for each reason, failures first."""
    found = sorted(reasons(result), key=lambda each: each[2] != "failed")
    return [
        f"::{LEVELS[verdict]} title=pollstorm {about}::{_escaped(reason)}"
        for about, reason, verdict in found[:MOST_ANNOTATIONS]
    ]


def junit(result: CheckResult) -> bytes:
    """A case per mode and figure, and one for the mode; what could not be decided is an error."""
    suite = Xml.Element("testsuite", name="pollstorm.check", timestamp=result.started_utc)
    for mode, found in result.modes.items():
        for name, count in found.counts.items():
            _case(suite, mode, name, "failure" if count.worse else "", f"{name} is worse")
        for name, timed in found.timed.items():
            if timed.decides:
                tag = {"worse": "failure", "undecided": "error"}.get(timed.judgement, "")
                _case(suite, mode, name, tag, f"{name} is {timed.judgement}: {change(timed)}")
        tag = {"failed": "failure", "inconclusive": "error"}.get(found.verdict, "")
        _case(suite, mode, "verdict", tag, " ".join(found.reasons))
    if result.stopped_by:
        _case(suite, "check", "stopped", "error", result.stopped_by)
    for attribute, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error")):
        suite.set(attribute, str(sum(1 for _ in suite.iter(tag))))
    Xml.indent(suite)
    document: bytes = Xml.tostring(suite, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def _case(suite: Xml.Element, about: str, name: str, tag: str, message: str) -> None:
    """`tag` empty: it is as it should be."""
    case = Xml.SubElement(suite, "testcase", classname=f"pollstorm.check.{about}", name=name)
    if tag:
        Xml.SubElement(case, tag, message=NOT_IN_XML.sub("?", message))


def _percent(share: float) -> str:
    return f"{share * 100:+.1f}".replace("-", "−")


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
