"""One mode of a plan on actual servers: what the processes of a site and its flushers are told."""

import tomllib
from pathlib import Path

import msgspec

from harness.errors import PlanError
from harness.plan import Plan, check, host_of


class Deployment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One mode of a plan on actual servers: what a site or flusher process is started with."""

    plan: Plan
    mode: str
    memcached: tuple[str, ...]  # host:port
    database: str  # mysql://user:password@host:port/name or …?unix_socket=/path
    folder: str  # journals, metrics and the armed page lie here
    secret: str = ""  # signs voters' cookies; POLLSTORM_SECRET goes before it
    host: str = "127.0.0.1"
    port: int = 0

    @classmethod
    def read(cls, path: Path) -> "Deployment":
        """Reads a deployment from TOML or JSON. Raises PlanError."""
        decode = msgspec.json.decode if path.suffix == ".json" else msgspec.toml.decode
        try:
            deployment = decode(path.read_bytes(), type=cls)
        except OSError as error:
            raise PlanError(f"{path}: {error.strerror}") from error
        except (msgspec.MsgspecError, tomllib.TOMLDecodeError) as error:
            raise PlanError(f"{path}: {error}") from error
        check(deployment.plan, str(path))
        for address in deployment.memcached:
            host_of(address, "memcached")
        return deployment

    def write(self, path: Path) -> None:
        path.write_bytes(msgspec.json.encode(self))

    def make_folder(self) -> None:
        """Raises PlanError."""
        try:
            Path(self.folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PlanError(
                f"folder {self.folder}: {error.strerror}; name one we may write to"
            ) from error
