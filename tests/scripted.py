"""Replies by hand for a machine: what it asks is what it does."""

from collections.abc import Iterable

from harness.protocol.commands import Command, Machine, Reply, Result, Status
from harness.protocol.drive import drive

OK = Reply(Status.OK)
MISSING = Reply(Status.MISSING)
LOST = Reply(Status.LOST)
UNREACHABLE = Reply(Status.UNREACHABLE)
OVER = Reply(Status.OVER)
EXISTS = Reply(Status.EXISTS)
REFUSED = Reply(Status.REFUSED)


def number(value: int) -> Reply:
    return Reply(Status.OK, value)


def value(text: bytes) -> Reply:
    return Reply(Status.OK, value=text)


def parts(*replies: Reply) -> Reply:
    return Reply(Status.OK, parts=replies)


def play(machine: Machine[Result], replies: Iterable[Reply]) -> tuple[list[Command], Result]:
    """The commands that the machine yields when it is given these replies, and its result."""
    asked: list[Command] = []
    script = iter(replies)

    def answer(command: Command) -> Reply:
        asked.append(command)
        return next(script)

    result = drive(machine, answer)
    assert next(script, None) is None, "the machine ended before the script"
    return asked, result
