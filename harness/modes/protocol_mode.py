"""A mode that is a protocol: everything else follows from that."""

from abc import ABC, abstractmethod
from typing import ClassVar, Final

from harness.deployment import Deployment
from harness.history.journal import Journal
from harness.modes.draining import QueueDrain
from harness.modes.mode import require_memcached
from harness.modes.queues import terms
from harness.modes.voting import VotingSession
from harness.plan import Plan
from harness.protocol.queue import Terms, VotingProtocol

FOR_GOOD: Final = 0  # the flusher replaces totals; they need no lifetime


class ProtocolMode(ABC):
    """Derive a mode from this; `name` and `protocol` are all that it must have."""

    name: str
    promises: bool = False
    excuses: tuple[str, ...] = ()
    breakers: ClassVar[bool] = False
    """Whether a memcached that does not answer is left alone for a while by the whole process.
    Not for protocols with a lock: those would change behaviour."""

    @abstractmethod
    def protocol(self, terms: Terms) -> VotingProtocol:
        """What it does with a vote, and how it drains."""

    @property
    def queues(self) -> bool:
        return self.protocol(Terms()).drain is not None

    def totals_life_s(self, _plan: Plan) -> int | None:
        """How long totals may lie in memcached; 0: for good, None: they are counted each time."""
        return FOR_GOOD if self.queues else None

    def session(self, deployment: Deployment, journal: Journal | None) -> VotingSession:
        require_memcached(self, len(deployment.memcached), deployment.plan)
        return VotingSession(
            self.protocol(terms(deployment.plan)),
            deployment,
            journal,
            totals_life_s=self.totals_life_s(deployment.plan),
            breakers=self.breakers,
        )

    def drain(self, deployment: Deployment, journal: Journal | None) -> QueueDrain:
        require_memcached(self, len(deployment.memcached), deployment.plan)
        return QueueDrain(
            self.protocol(terms(deployment.plan)), deployment, journal, breakers=self.breakers
        )
