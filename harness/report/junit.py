"""`junit.xml`, for a CI server: per mode a case for its votes, its measurement, each SLO.

Where each voter is counted once at most, one for that as well.
"""

from xml.etree import ElementTree as Xml

from harness.report import sentences
from harness.result import ModeResult, RunResult


def junit(result: RunResult) -> bytes:
    """JUnit XML. A loss that breaks no promise is told, but is no failure.

    What cannot be proven is an error: the test could not be made, so it neither passed nor failed.
    """
    suite = Xml.Element("testsuite", name=f"pollstorm.{result.scenario}")
    suite.set("timestamp", result.started_utc)
    for name, mode in result.modes.items():
        _votes_case(suite, name, mode)
        if result.once:
            _rule_case(suite, name, mode)
        _measurement_case(suite, name, mode)
        for slo in mode.slo:
            case = _case(suite, name, slo.text)
            if not slo.held:
                Xml.SubElement(case, "failure", message=sentences.slo_sentence(slo))
    for attribute, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error")):
        suite.set(attribute, str(sum(1 for _ in suite.iter(tag))))
    root = Xml.Element("testsuites", {k: v for k, v in suite.attrib.items() if k != "timestamp"})
    root.append(suite)
    Xml.indent(root)
    document: bytes = Xml.tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def _votes_case(suite: Xml.Element, name: str, mode: ModeResult) -> None:
    case = _case(suite, name, "votes kept")
    sentence = sentences.votes_sentence(name, mode)
    if mode.verdict.votes == "unknown":
        Xml.SubElement(case, "error", message=sentence).text = _text(mode)
    elif mode.promise_kept is False and (
        mode.verdict.votes == "lost" or mode.rule_kept is not False
    ):
        # Where voters were counted twice and nothing is lost, the rule's own case says so.
        Xml.SubElement(case, "failure", message=sentence).text = _text(mode)
    else:
        Xml.SubElement(case, "system-out").text = sentence


def _rule_case(suite: Xml.Element, name: str, mode: ModeResult) -> None:
    """The poll's promise, so that no mode is excused from it."""
    case = _case(suite, name, "each voter counted once at most")
    sentence = sentences.rule_sentence(mode)
    if mode.rule_kept is None:
        Xml.SubElement(case, "error", message=sentence or "Nothing is proven.").text = _text(mode)
    elif mode.rule_kept:
        Xml.SubElement(case, "system-out").text = sentence
    else:
        Xml.SubElement(case, "failure", message=sentence)


def _measurement_case(suite: Xml.Element, name: str, mode: ModeResult) -> None:
    case = _case(suite, name, "measurement sound")
    if mode.verdict.measurement == "invalid":
        Xml.SubElement(case, "error", message="The measurement is invalid.").text = _text(mode)


def _case(suite: Xml.Element, mode: str, name: str) -> Xml.Element:
    return Xml.SubElement(suite, "testcase", classname=f"{suite.get('name')}.{mode}", name=name)


def _text(mode: ModeResult) -> str:
    return "\n".join((*mode.verdict.reasons, sentences.promise_sentence(mode)))
