"""Run a machine to its end over something that executes commands."""

from collections.abc import Callable

from harness.protocol.commands import Command, Machine, Reply, Result


def drive(machine: Machine[Result], execute: Callable[[Command], Reply]) -> Result:
    """What the machine returns once every command it yielded has been executed in turn."""
    try:
        command = next(machine)
        while True:
            command = machine.send(execute(command))
    except StopIteration as finished:
        result: Result = finished.value
        return result
