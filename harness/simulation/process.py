"""A process of the simulated world: it can be stopped and continued, and it can die."""

from harness.simulation.cores import Gil
from harness.simulation.events import Act


class Process:
    """Its threads share an interpreter, if there are several. Who is dead stays so: a restart is
    another process."""

    def __init__(self, number: int, threads: int = 1) -> None:
        self.number = number
        self.gil = Gil() if threads > 1 else None
        self.stopped = False
        self.dead = False
        self._held: list[Act] = []

    def hold(self, act: Act) -> None:
        """Something that is to happen when the process goes on."""
        self._held.append(act)

    def stop(self) -> None:
        self.stopped = True

    def go_on(self) -> None:
        """Let happen what was held; a process that is not stopped holds nothing."""
        self.stopped = False
        held, self._held = self._held, []
        for act in held:
            act()

    def die(self) -> None:
        """Nothing of it happens any more."""
        self.dead = True
        self.stopped = False
        self._held.clear()
