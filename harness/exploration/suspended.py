"""What a suspended machine still knows: two that know the same, at the same place, do the same.

A generator that waits at a `yield` is its place in the code, its local variables and what it has
put aside in the middle of an expression or a loop. A variable that will be written before it is
read does not count. What cannot be compared by value makes the whole machine incomparable.

This reads CPython's own frames. `works` says whether the interpreter shows all that is needed.
"""

import dis
import gc
from collections.abc import Generator, Hashable, Iterator
from enum import Enum
from functools import cache, partial
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FrameType,
    FunctionType,
    GeneratorType,
    ModuleType,
)
from typing import Any, Final

BY_IDENTITY: Final = (type, FunctionType, BuiltinFunctionType, CodeType, ModuleType, partial)
LOOPED_OVER: Final[tuple[object, ...]] = (
    iter(range(0)),
    iter([]),
    iter(()),
    zip(),
    enumerate(()),
    iter({}.items()),
)
ITERATORS: Final = tuple(map(type, LOOPED_OVER))
EVERYTHING: Final = ("locals", "eval", "exec", "vars", "dir")  # may read a variable by its name
NO_WAY_ON: Final = (
    *("RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE"),
    *("JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT"),
)  # to the next instruction; one that is missing here makes more variables count, never fewer


class Incomparable(Exception):
    """Something in the machine can be compared with nothing."""


class Cas(int):
    """A CAS, known from other numbers, so that a process's own need not say whose it is."""


class Memory:
    """Reads what the machines of one process know. `own` is that process's CAS."""

    def __init__(self, own: int) -> None:
        self._own = own
        self._kept: dict[int, object] = {}  # or another might get the number of one that is gone

    def known_by(self, machine: object, asked: object) -> Hashable:
        """All that the machine's future depends on, and what it asks for. Raises Incomparable."""
        if not isinstance(machine, GeneratorType):
            raise Incomparable(type(machine).__name__)
        reading = _Reading(self._own, self._kept)
        return (reading.generator(machine), reading.value(asked))


class _Reading:
    """One look at one machine; a list that is met twice is the same list."""

    def __init__(self, own: int, kept: dict[int, object]) -> None:
        self._own = own
        self._kept = kept
        self._met: dict[int, tuple[int, object]] = {}

    def generator(self, machine: "GeneratorType[Any, Any, Any]") -> Hashable:
        frame = machine.gi_frame
        if frame is None:
            return ("ended",)
        variables = dict(frame.f_locals)
        aside = [o for o in gc.get_referents(machine) if not _is_frames_own(o, frame)]
        for value in variables.values():
            at = next((i for i, other in enumerate(aside) if other is value), None)
            if at is not None:
                del aside[at]
        live = _live_at(frame.f_code, frame.f_lasti)
        known = [(name, self.value(v)) for name, v in variables.items() if name in live]
        put_aside = [self.value(value) for value in aside]
        return (self._itself(frame.f_code), frame.f_lasti, tuple(known), tuple(put_aside))

    def _itself(self, what: object) -> int:
        self._kept[id(what)] = what
        return id(what)

    def value(self, what: object) -> Hashable:
        """The value, as nested tuples."""
        if type(what) is bytes:
            return what
        if type(what) is Cas:
            return ("cas", -1 if what == self._own else int(what))
        if what is None or type(what) in (bool, int, float, str):
            return (type(what).__name__, what)
        if isinstance(what, Enum):
            return (self._itself(type(what)), what.name)
        if isinstance(what, tuple):
            return (self._itself(type(what)), *map(self.value, what))
        if isinstance(what, BY_IDENTITY):
            return ("itself", self._itself(what))
        return self._changeable(what)

    def _changeable(self, what: object) -> Hashable:
        if type(what) is range:
            return ("range", what.start, what.stop, what.step)
        if id(what) in self._met:
            return ("again", self._met[id(what)][0])
        self._met[id(what)] = (len(self._met), what)
        if type(what) is list:
            return ("list", *map(self.value, what))
        if type(what) is dict:
            return ("dict", *((self.value(k), self.value(v)) for k, v in what.items()))
        if isinstance(what, GeneratorType):
            return self.generator(what)
        if isinstance(what, CellType):
            return ("cell", *self._inside(what))
        if isinstance(what, ITERATORS):
            return self.value(what.__reduce__())
        raise Incomparable(type(what).__name__)

    def _inside(self, cell: CellType) -> list[Hashable]:
        try:
            return [self.value(cell.cell_contents)]
        except ValueError:  # nothing yet
            return []


def _is_frames_own(what: object, frame: FrameType) -> bool:
    """Whether a generator refers to it as to a part of its frame, whatever its code does."""
    if what is frame or what is frame.f_code or what is frame.f_locals:
        return True
    return isinstance(what, FunctionType) and what.__code__ is frame.f_code


@cache
def _live_at(code: CodeType, at: int) -> frozenset[str]:
    """The variables that may be read, before they are written, by what follows this place."""
    names = (*code.co_varnames, *code.co_cellvars, *code.co_freevars)
    if set(EVERYTHING) & set(code.co_names):
        return frozenset(names)
    always = {*code.co_cellvars, *code.co_freevars}
    return frozenset(n for n in names if n in always or _is_read_after(code, at, n))


def _is_read_after(code: CodeType, at: int, name: str) -> bool:
    instructions = {each.offset: each for each in dis.get_instructions(code)}
    following = dict(zip(instructions, list(instructions)[1:], strict=False))
    handlers = _handlers(code)
    if at not in following:
        return True
    ahead, seen = [following[at], *handlers], set[int]()
    while ahead:
        offset = ahead.pop()
        if offset in seen:
            continue
        seen.add(offset)
        now = instructions[offset]
        does = _does(now, name)
        if does == "read":
            return True
        if does == "written":
            continue
        if now.opcode in dis.hasjrel or now.opcode in dis.hasjabs:
            ahead.append(now.argval)
        if now.opname not in NO_WAY_ON and offset in following:
            ahead.append(following[offset])
    return False


def _handlers(code: CodeType) -> list[int]:
    """Where exceptions may lead."""
    return [entry.target for entry in dis.Bytecode(code).exception_entries]  # type: ignore[attr-defined]


def _does(now: dis.Instruction, name: str) -> str:
    """Whether the instruction reads the variable first, or writes it, or neither."""
    if "FAST" not in now.opname:
        return ""
    names = now.argval if isinstance(now.argval, tuple) else (now.argval,)
    if name not in names:
        return ""
    parts = now.opname.split("_FAST")
    kinds = [part.strip("_") for part in parts[:-1]]
    if len(kinds) != len(names):
        return "read"
    first = kinds[names.index(name)]
    return "written" if first in ("STORE", "DELETE") else "read"


@cache
def works() -> bool:
    """Whether this interpreter shows what is put aside: how far loops of each kind have come."""

    def loop(things: Iterator[Any]) -> Generator[None, None, None]:
        for _ in things:
            yield

    for things in (range(9), [0] * 9, (0,) * 9, zip([0] * 9, [0] * 9, strict=True)):
        machine, known = loop(iter(things)), set()
        for _ in range(3):
            next(machine)
            try:
                known.add(Memory(0).known_by(machine, None))
            except Incomparable:
                return False
        if len(known) < 3:
            return False
    return True
