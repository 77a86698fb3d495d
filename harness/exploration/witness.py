"""A losing schedule as a file: what `pollstorm replay` steps over real sockets."""

from pathlib import Path
from typing import Final

import msgspec

from harness.errors import PlanError
from harness.exploration.automaton import Actor
from harness.exploration.bounds import READER, WRITER, Bounds
from harness.exploration.report import MEMCACHED_ITSELF, Exploration, Row

SCHEMA: Final = 1  # of the file; another number is another format


class Witness(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What happens, and which votes it kills."""

    protocol: str
    bounds: Bounds
    schedule: list[Row]
    lost: list[str]
    doubled: list[str]
    schema: int = SCHEMA


def save_witness(found: Exploration, path: Path) -> None:
    """Write the schedule of a loss. Raises PlanError when the file is there, or cannot be made."""
    witness = Witness(found.protocol, found.bounds, found.schedule, found.lost, found.doubled)
    text = msgspec.json.format(msgspec.json.encode(witness))
    try:
        with path.open("xb") as file:
            file.write(text + b"\n")
    except FileExistsError:
        raise PlanError(f"--witness {path} is there already; remove it or name another") from None
    except OSError as error:
        raise PlanError(f"--witness {path} cannot be written: {error.strerror}") from error


def require_writable(path: Path) -> None:
    """Raises PlanError when no witness could be put there: better before a long search."""
    if path.exists():
        raise PlanError(f"--witness {path} is there already; remove it or name another")
    if not path.parent.is_dir():
        raise PlanError(f"--witness {path} cannot be written: {path.parent} is no folder")


def read_witness(path: Path) -> Witness:
    """The witness in a file. Raises PlanError for a file that holds none."""
    try:
        witness = msgspec.json.decode(path.read_bytes(), type=Witness)
    except OSError as error:
        raise PlanError(f"{path} cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise PlanError(f"{path} is no witness of pollstorm explore: {error}") from error
    if witness.schema != SCHEMA:
        raise PlanError(f"{path} has schema {witness.schema}, and this version reads {SCHEMA}")
    b = witness.bounds
    known = {Actor(WRITER, place).name for place in range(b.writers)}
    known |= {Actor(READER, place).name for place in range(b.readers)} | {MEMCACHED_ITSELF}
    if unknown := {row.actor for row in witness.schedule} - known:
        raise PlanError(f"{path}: its bounds have no {min(unknown)!r}, and its schedule has")
    if not witness.lost and not witness.doubled:
        raise PlanError(f"{path} names no vote that is lost or doubled, so it proves nothing")
    return witness
