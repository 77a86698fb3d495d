"""The result as CSV files, one row per mode or trial and one column per field, units in names."""

from typing import Any

import msgspec
import pandas as pd

from harness.result import ModeResult, RunResult


def tables(result: RunResult) -> dict[str, pd.DataFrame]:
    """Frames by file name without `.csv`: `modes`, `trials`, `slo`, `faults`."""
    modes = [{"mode": name, **_figures(mode)} for name, mode in result.modes.items()]
    trials = [
        {"mode": name, "trial": number, **_figures(trial)}
        for name, mode in result.modes.items()
        for number, trial in enumerate(mode.trials or (mode,), start=1)
    ]
    slos = [
        {"mode": name, **msgspec.to_builtins(slo)}
        for name, mode in result.modes.items()
        for slo in mode.slo
    ]
    faults = [
        {"mode": name, "trial": number, **msgspec.to_builtins(fault)}
        for name, mode in result.modes.items()
        for number, trial in enumerate(mode.trials or (mode,), start=1)
        for fault in trial.faults
    ]
    return {
        "modes": pd.DataFrame(modes),
        "trials": pd.DataFrame(trials),
        "slo": pd.DataFrame(slos, columns=["mode", "text", "value", "held"]),
        "faults": pd.DataFrame(
            faults,
            columns=["mode", "trial", "kind", "target", "start_s", "end_s", "hit", "detail"],
        ),
    }


def to_csv(frame: pd.DataFrame) -> bytes:
    """UTF-8, a header line, empty cells where there is no value."""
    return frame.to_csv(index=False, lineterminator="\n").encode()


def _figures(mode: ModeResult) -> dict[str, Any]:
    """All figures of a mode in one flat row, named `<section>.<field>`."""
    row: dict[str, Any] = {}
    for section, value in msgspec.to_builtins(mode).items():
        if section in ("trials", "slo", "faults"):
            continue
        if isinstance(value, dict):
            row |= {f"{section}.{field}": _cell(inner) for field, inner in value.items()}
        else:
            row[section] = _cell(value)
    nested = [key for key, value in row.items() if isinstance(value, dict)]
    for key in nested:
        row |= {f"{key}.{field}": value for field, value in row.pop(key).items()}
    return row


def _cell(value: Any) -> Any:
    return " ".join(map(str, value)) if isinstance(value, (tuple, list)) else value
