"""A hook for schemathesis: whole numbers are written without a decimal point.

To JSON Schema 83.0 is an integer; to us, who take choices as they are counted, it is none.
"""

from typing import Any

import schemathesis


@schemathesis.hook
def map_body(_context: schemathesis.HookContext, body: Any) -> Any:
    if isinstance(body, dict) and isinstance(body.get("choice"), float):
        choice = body["choice"]
        return {**body, "choice": int(choice) if choice.is_integer() else choice}
    return body
