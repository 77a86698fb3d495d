"""What lets a run in somewhere: a database's password, and what the headers of a request say.

Run folders are kept and reports are shown around, so none of it is written there. What is given as
`${NAME}` is taken from the environment when it is needed, and only the name is ever written. What
is given itself is written as `***`: that can be audited and reported, but starts no load.
"""

import os
import re
from typing import Any, Final
from urllib.parse import quote

from harness.errors import PlanError

MASK: Final = "***"
NAME: Final = r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}"
NAMED: Final = re.compile(NAME)
ONLY_NAMED: Final = re.compile(f"(?:[A-Za-z]+ )?{NAME}")  # `Bearer ${TOKEN}`: the scheme is known
USER: Final = r"(://[^:@/]*:)"
PASSWORD: Final = re.compile(f"{USER}.+@")  # to the last @, which one that is no URL may have too
NAMED_PASSWORD: Final = re.compile(f"{USER}{NAME}(?=@)")
MASKED_PASSWORD: Final = re.compile(f"{USER}{re.escape(MASK)}@")
QUERY: Final = "query="  # of a source of ballots: it comes last, and may say anything


def masked_value(value: str) -> str:
    """What a header says, as it may be written down."""
    return value if ONLY_NAMED.fullmatch(value) else MASK


def masked_values(value: Any) -> Any:
    """The same of all texts in a value of TOML."""
    if isinstance(value, dict):
        return {key: masked_values(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [masked_values(inner) for inner in value]
    return masked_value(value) if isinstance(value, str) else value


def masked_url(text: str) -> str:
    """A text that may be a database's URL, as it may be written down."""
    url, query, rest = text.partition(QUERY)
    if NAMED_PASSWORD.search(url):
        return text
    return PASSWORD.sub(rf"\1{MASK}@", url) + query + rest


def told_value(value: str, where: str) -> str:
    """What a header really says. Raises PlanError, opened by `where`."""
    if value == MASK:
        raise PlanError(_masked(where))
    return NAMED.sub(lambda found: _from_environment(found[1], where), value)


def told_url(text: str, where: str) -> str:
    """The URL with its password. Raises PlanError, opened by `where`."""
    url, query, rest = text.partition(QUERY)
    if MASKED_PASSWORD.search(url):
        raise PlanError(_masked(f"{where}: the password"))

    def told(found: re.Match[str]) -> str:
        return found[1] + quote(_from_environment(found[2], where), safe="")

    return NAMED_PASSWORD.sub(told, url) + query + rest


def _masked(what: str) -> str:
    return (
        f"{what} is {MASK}, which pollstorm writes in a secret's place; write it anew, best as "
        "${NAME} with NAME in the environment"
    )


def _from_environment(name: str, where: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise PlanError(f"{where}: the environment has no {name}; set it before the run")
    return value
