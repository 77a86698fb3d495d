"""`pollstorm replay`: a losing schedule, step by step, against a real memcached."""

import secrets
from pathlib import Path
from typing import Final

import click

from harness.cli.options import allow_target, existing_services, memcached
from harness.errors import Exit, PlanError
from harness.exploration.report import lost_or_doubled
from harness.exploration.witness import Witness, read_witness
from harness.modes.mode import find_mode, require_memcached
from harness.plan import MemcachedPlan
from harness.protocol.queue import Terms, VotingProtocol
from harness.replay import Replay, Replayed
from harness.services.interruption import interruptible
from harness.services.memcached import require_answer, require_different, start_memcached
from harness.services.processes import Supervisor

EXAMPLES: Final = """\b
Examples:
  pollstorm explore classic --writers 1 --witness loss.json
  pollstorm replay loss.json
  pollstorm replay loss.json --memcached 127.0.0.1:11211

Exit codes: 99 reality lost the same vote, 1 reality disagreed, 2 the file is no witness."""


@click.command(epilog=EXAMPLES, short_help="A losing schedule against a real memcached.")
@click.argument("file", type=click.Path(path_type=Path))
@memcached
@allow_target
def replay(file: Path, memcached: str | None, allow_target: tuple[str, ...]) -> int:
    """Step the schedule in FILE over real sockets, one thread for each process.

    The database is a simulated one. In a memcached that is not private, keys get a prefix of their
    own, are deleted afterwards, and a wipe is done by deleting them.
    """
    witness = read_witness(file)
    mode = find_mode(witness.protocol)
    protocol = mode.protocol(Terms(writers=max(1, witness.bounds.writers)))
    if protocol.drain is None:
        raise PlanError(f"{file}: {witness.protocol} has no queue, so nothing can be replayed")
    addresses = existing_services(memcached, None, allow_target).memcached
    if addresses:
        require_memcached(mode, len(addresses))
    with interruptible():
        replayed = (
            _replay_there(witness, protocol, addresses)
            if addresses
            else _replay_privately(witness, protocol)
        )
    steps = f"{len(witness.schedule)} steps of {witness.protocol} over real sockets"
    if replayed.disagreement:
        click.echo(f"{steps}: reality disagreed at {replayed.disagreement}")
        return Exit.FAILED
    click.echo(f"{steps}: {lost_or_doubled(replayed.lost, replayed.doubled)}, as in the witness")
    return Exit.BROKEN_PROMISE


def _replay_there(
    witness: Witness, protocol: VotingProtocol, addresses: tuple[str, ...]
) -> Replayed:
    for address in addresses:
        require_answer(address)
    require_different(addresses)
    return Replay(
        witness, protocol, addresses, prefix=f"pollstorm-replay-{secrets.token_hex(4)}"
    ).run()


def _replay_privately(witness: Witness, protocol: VotingProtocol) -> Replayed:
    with Supervisor() as supervisor:
        folder = supervisor.temporary_directory()
        servers = [
            start_memcached(supervisor, MemcachedPlan(), folder / f"memcached-{number}.log")
            for number in range(protocol.daemons)
        ]
        return Replay(
            witness,
            protocol,
            [server.address for server in servers],
            flush=lambda daemon: servers[daemon].wipe(),
        ).run()
