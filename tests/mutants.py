"""A protocol's module with one passage of its source exchanged: what a slip there would do."""

import inspect
from collections.abc import Callable
from types import ModuleType

from harness.protocol import classic, mirrored, owned, ticket
from harness.protocol.queue import Terms, VotingProtocol

PROTOCOLS: dict[str, Callable[[Terms], VotingProtocol]] = {
    "classic": classic.protocol,
    "owned": owned.protocol,
    "ticket": ticket.protocol,
    "mirrored": mirrored.protocol,
}


def with_passage(module: ModuleType, passage: str, instead: str) -> ModuleType:
    """The module as if it had been written so. The passage must stand there exactly once."""
    source = inspect.getsource(module)
    assert source.count(passage) == 1, f"not once in {module.__name__}: {passage}"
    mutant = ModuleType(f"{module.__name__}_mutant")
    exec(compile(source.replace(passage, instead), mutant.__name__, "exec"), mutant.__dict__)
    return mutant
