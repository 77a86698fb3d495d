"""`summary.md`: the result as Markdown, for a pull request or a chat."""

from harness.report import sentences
from harness.report.notation import count, number
from harness.report.table import reasons
from harness.result import RunResult

HEADINGS = (
    "mode",
    "votes",
    "measurement",
    "sent",
    "acknowledged",
    "lost",
    "twice",
    "acknowledged/s",
    "p50 ms",
    "p99 ms",
    "max ms",
    "takeovers",
    "cold grants",
    "overlaps",
    "counted p99 s",
)
ONCE_HEADINGS = ("refused", "rejected", "overvotes")
"""Of once-only polls, besides."""


def summary(result: RunResult) -> str:
    """The whole document."""
    lines = [f"# pollstorm: {escaped(result.scenario)}", ""]
    if standing := sentences.standing(result):
        lines += [f"> **{standing}**", ""]
    lines += [
        f"**{sentences.VOTES_WORD[result.verdict.votes]}.** {sentences.votes_headline(result)}",
        "",
        f"**{sentences.MEASUREMENT_WORD[result.verdict.measurement]}.** "
        f"{sentences.measurement_headline(result)}",
        "",
    ]
    if result.once:
        word = sentences.RULE_WORD[sentences.rule_of(result)]
        lines += [f"**{word}.** {sentences.rule_headline(result)}", ""]
    for name, mode in result.modes.items():
        words = [
            sentences.votes_sentence(name, mode),
            sentences.spread_sentence(mode),
            sentences.rule_sentence(mode),
            sentences.promise_sentence(mode),
        ]
        lines.append(f"- {escaped(' '.join(filter(None, words)))}")
    lines += ["", *_modes_table(result), ""]
    if told := [*reasons(result), *sentences.unplanned(result)]:
        lines += ["## Reasons", "", *(f"- {escaped(reason)}" for reason in told), ""]
    if thresholds := [(n, slo) for n, mode in result.modes.items() for slo in mode.slo]:
        lines += ["## Thresholds", ""]
        lines += [f"- {n}: {escaped(sentences.slo_sentence(slo))}" for n, slo in thresholds]
        lines.append("")
    if faults := [(n, fault) for n, mode in result.modes.items() for fault in mode.faults]:
        lines += ["## Faults injected", ""]
        lines += [f"- {n}: {escaped(sentences.fault_sentence(fault))}" for n, fault in faults]
        lines.append("")
    lines += ["Repeat it:", "", f"    {result.command}", ""]
    lines += [f"{sentences.exit_sentence(result)} {_origin(result)}"]
    return "\n".join(lines) + "\n"


def _origin(result: RunResult) -> str:
    started = f"Started {result.started_utc}, seed" if result.started_utc else "Seed"
    return f"{started} {result.seed}."


def escaped(text: str) -> str:
    """Text that Markdown shows as it stands."""
    for sign in ("\\", "`", "*", "_", "<", "[", "|"):
        text = text.replace(sign, f"\\{sign}")
    return text.replace("\n", " ")


def _modes_table(result: RunResult) -> list[str]:
    headings = HEADINGS + ONCE_HEADINGS * result.once
    lines = [f"| {' | '.join(headings)} |", f"|---|---|---|{'---:|' * (len(headings) - 3)}"]
    for name, mode in result.modes.items():
        accounts, latency, lock = mode.accounts, mode.latency_ms, mode.lock
        cells = [
            escaped(name),
            mode.verdict.votes,
            mode.verdict.measurement,
            count(accounts.sent),
            count(accounts.acknowledged),
            count(accounts.lost),
            count(accounts.duplicated),
            number(mode.rates_per_s.acknowledged),
            number(latency.p50),
            number(latency.p99),
            number(latency.max),
            count(lock.takeovers),
            count(lock.cold_grants),
            count(lock.overlaps),
            number(mode.counted_after_s.p99),
        ]
        if result.once:
            cells += map(count, (accounts.refused, accounts.rejected, accounts.overvotes))
        lines.append(f"| {' | '.join(cells)} |")
    return lines
