"""Results written by hand, for whatever reads a `result.json` and asks no history."""

from collections.abc import Mapping
from typing import Any, Final

from harness.result import (
    Accounts,
    CountedAfter,
    Generator,
    Lag,
    Latency,
    Lock,
    ModeResult,
    Rates,
    RunResult,
    Verdict,
    WaitMs,
)

NO_WAIT: Final = WaitMs(p50=None, p99=None, max=None)
NO_LOCK: Final = Lock(
    grants=0,
    clean_grants=0,
    cold_grants=0,
    takeovers=0,
    gave_up=0,
    overlaps=0,
    attempts_per_grant=None,
    wait_ms=NO_WAIT,
    hold_ms=NO_WAIT,
)
SOME_LOCK: Final = Lock(
    grants=709,
    clean_grants=700,
    cold_grants=2,
    takeovers=7,
    gave_up=0,
    overlaps=386,
    attempts_per_grant=3.1,
    wait_ms=WaitMs(p50=1.0, p99=1032.0, max=1077.0),
    hold_ms=WaitMs(p50=0.2, p99=1.2, max=1200.0),
)


def mode_result(
    acknowledged: int = 4512, lost: int = 0, duplicated: int = 0, **changes: Any
) -> ModeResult:
    """A mode that acknowledged so many and lost so many; `accounts` in changes are laid over."""
    accounts = {
        "planned": acknowledged,
        "unsent": 0,
        "sent": acknowledged,
        "acknowledged": acknowledged,
        "counted": acknowledged - lost,
        "lost": lost,
        "duplicated": duplicated,
        "extra_deliveries": duplicated,
        **dict.fromkeys(
            ("altered", "resurrected", "recovered", "absent", "refused", "pending", "phantom"), 0
        ),
    } | changes.pop("accounts", {})
    latency = Latency(p50=1.49, p90=2.3, p99=12.2, p99_9=1203.1, max=1302.2)
    bound = 3 / acknowledged if acknowledged and not lost else None
    values: dict[str, Any] = {
        "verdict": Verdict(
            votes="lost" if lost else "kept", measurement="sound", lost_at_most_per_vote=bound
        ),
        "promises": True,
        "promise_kept": not lost,
        "accounts": Accounts(**accounts),
        "rates_per_s": Rates(offered=230.0, sent=229.5, acknowledged=225.1, acknowledged_peak=702),
        "latency_ms": latency,
        "latency_from_sent_ms": latency,
        "results_latency_ms": latency,
        "lag": Lag(no_free_user_ms=(0.0, 1.2, 3.0), wake_lag_ms=(0.4, 1.0, 2.0)),
        "counted_after_s": CountedAfter(p50=0.3, p99=0.52),
        "lock": NO_LOCK,
        "generator": Generator(
            ceiling_per_s=18_000.0,
            in_flight_sampled=2.1,
            in_flight_expected=2.12,
            site_in_flight=1.9,
        ),
    }
    return ModeResult(**values | changes)


def classic_result(lost: int = 37, duplicated: int = 5, **changes: Any) -> ModeResult:
    """The post's queue: it lost votes and promises nothing."""
    values = {"promises": False, "promise_kept": None, "lock": SOME_LOCK}
    return mode_result(lost=lost, duplicated=duplicated, **values | changes)


def run_result(modes: Mapping[str, ModeResult], **changes: Any) -> RunResult:
    """A whole run of these modes; its verdicts are the worst of theirs."""
    votes = [mode.verdict.votes for mode in modes.values()]
    measurements = [mode.verdict.measurement for mode in modes.values()]
    values: dict[str, Any] = {
        "schema_version": 1,
        "scenario": "controversial-poll",
        "command": "pollstorm run controversial-poll --modes direct,classic --seed 1",
        "started_utc": "2026-11-23T19:50:00Z",
        "seed": 1,
        "partial": False,
        "simulated": False,
        "verdict": Verdict(
            votes=next((v for v in ("unknown", "lost") if v in votes), "kept"),
            measurement="invalid" if "invalid" in measurements else "sound",
        ),
        "exit_code": 0,
        "modes": dict(modes),
    }
    return RunResult(**values | changes)
