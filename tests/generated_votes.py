"""Hooks for schemathesis: how its votes are written, and in which poll they are cast."""

from typing import Any

import schemathesis

from tests.hostile_text import GENERATED, ONCE, POLL


@schemathesis.hook
def map_body(_context: schemathesis.HookContext, body: Any) -> Any:
    """To JSON Schema 83.0 is an integer; to us it is no number to count by."""
    if isinstance(body, dict) and isinstance(body.get("choice"), float):
        choice = body["choice"]
        return {**body, "choice": int(choice) if choice.is_integer() else choice}
    return body


@schemathesis.hook
def map_path_parameters(_context: schemathesis.HookContext, parameters: Any) -> Any:
    """It learns from the list of polls which others there are, and those are kept account of."""
    if isinstance(parameters, dict) and parameters.get("poll") in (POLL, ONCE):
        return {**parameters, "poll": GENERATED}
    return parameters
