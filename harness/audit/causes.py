"""Why an acknowledged vote has no ballot: one decision, for queues with a pointer that is set back.

The pointer's `set`s, in CAS order, divide a queue's life into eras. A vote draws a slot in one of
them. It is counted if a drain reads its slot before the next `set`, and commits; so what comes
between its store and that `set`, or between that read and the commit, is what killed it.
"""

from typing import Final

from harness.audit.certificate import UNKNOWN, Command, Finding
from harness.audit.queues import Order, Queues, Reset
from harness.protocol.commands import COMMAND_CODES, UNANSWERED, Add, KeyKind, Set, Status
from harness.protocol.ticket import epoch_of

SET: Final = COMMAND_CODES[Set]
ADD: Final = COMMAND_CODES[Add]
SILENT: Final = tuple(map(int, UNANSWERED))


def cause_of_loss(queues: Queues, store: Command) -> Finding:
    """Why the vote that this command stored, or was to store, was not counted."""
    if store.key != KeyKind.SLOT:
        return Finding(UNKNOWN, False, "It was committed at once, and the database has it not.")
    if store.status == Status.REFUSED:
        why = "memcached refused the vote; nobody looked, and its voter was told that it is queued."
        return Finding("silent-refusal", True, why, store)
    if store.status != Status.OK:
        return Finding(UNKNOWN, False, "No reply says that it was stored.")
    taken = _taken_and_not_committed(queues, store)
    if taken:
        return taken
    if store.command == ADD:
        return _lost_ticket(queues, store)
    return _lost_in_era(queues, store)


def draw_of(queues: Queues, store: Command) -> Command | None:
    """The command that gave the operation its slot's number: on the slot's daemon, if one did."""
    found = [
        c
        for c in queues.drawn.get(store.who, ())
        if c.begin_ns <= store.begin_ns
        and c.status == Status.OK
        and (c.number == store.slot or c.command == SET)
    ]
    return next(iter([c for c in reversed(found) if c.daemon == store.daemon] or found[-1:]), None)


def _taken_and_not_committed(queues: Queues, store: Command) -> Finding | None:
    """A drain read the vote, and what it read never got into the database."""
    readers = [
        read
        for read in queues.select(store, reads=True, cas=store.cas, status=Status.OK)
        if read.life == store.life
    ]
    for read in reversed(readers):
        batches = [b for b in queues.batches.get(read.who, ()) if b.begin_ns >= read.begin_ns]
        batch = batches[-1] if batches else None
        if batch and batch.status == Status.OK:
            why = "A drain took it and was told that it is committed, yet the database has it not."
            return Finding(UNKNOWN, False, why, batch)
        if store.command == ADD:
            continue  # the head did not move, so the next drain reads the slot again
        reset = _reset_of(queues, read)
        if reset is None:
            continue  # the pointer still counts the slot
        if batch is None:
            why = "A drain took it, set the pointer back, and ended before it wrote the ballots."
            return Finding("read-not-committed", True, why, reset)
        if not batch.end_ns:
            why = "A drain took it, set the pointer back, and ended before the commit was answered."
            return Finding("read-not-committed", True, why, batch)
        why = "A drain took it and set the pointer back, but the database did not take the batch."
        return Finding("batch-rolled-back", True, why, batch)
    return None


def _reset_of(queues: Queues, read: Command) -> Command | None:
    """The `set` of the pointer that the read's operation sent after it."""
    everywhere = queues.resets_of(read.who)
    later = [c for c in everywhere if c.begin_ns >= read.begin_ns]
    return later[0] if later and later[0].status != Status.UNREACHABLE else None


def _lost_in_era(queues: Queues, store: Command) -> Finding:
    if not store.slot:
        why = "The pointer was missing, so the vote had no number and went to slot 0."
        return Finding("nil-pointer", True, why, store)
    draw = draw_of(queues, store)
    if draw is None:
        return _without_reset(queues, store, store)
    reset = queues.reset_after(draw.place, draw.life, draw.cas) if draw.life >= 0 else None
    if reset is None:
        return _without_reset(queues, draw, store)
    if reset.kind == "foreign":
        why = "The pointer went back, and no process of this trial had set it."
        return Finding("foreign-reset", True, why, reset.seen, "outside")
    if reset.kind in ("cold", "one"):
        return _started_anew(queues, draw, store, reset)
    return _passed_by(queues, draw, store, reset)


def _overwriting(
    queues: Queues, store: Command, until_cas: int, until: Command | None = None
) -> Command | None:
    """The first other store into the slot after the vote's, if it came before that CAS.

    Where the CAS is another daemon's, it must have come before the command `until`.
    """
    later = queues.select(store, reads=False, after_cas=store.cas, status=Status.OK)
    same = [c for c in later if c.life == store.life and c.vote != store.vote]
    if until is not None and until.daemon != store.daemon:
        same = [c for c in same if Order.before(c, until) is True]
    else:
        same = [c for c in same if c.cas < until_cas]
    return min(same, key=lambda c: c.cas) if same else None


def _overwritten(other: Command) -> Finding:
    why = "Another vote was stored in its slot before a drain had read it."
    return Finding("overwritten", True, why, other)


def _forgotten(queues: Queues, draw: Command, seen: Command | None) -> tuple[bool, bool, int]:
    """Whether memcached forgot the key after the draw, whether that is certain, and since when.

    The last is the CAS of the last write that the key surely knew.
    """
    if seen is None or seen.status != Status.MISSING or queues.refused_before(seen):
        return False, True, 0
    surely, maybe = queues.touched(KeyKind(seen.key), seen)
    if seen.daemon != draw.daemon:
        known = queues.known_since(KeyKind(seen.key), seen, draw.end_ns)
        return known, known, surely
    if surely >= draw.cas:
        return True, True, surely
    if maybe < draw.cas:
        return False, True, surely
    return bool(surely) and Order.before(draw, seen) is True, False, surely


def _started_anew(queues: Queues, draw: Command, store: Command, reset: Reset) -> Finding:
    forgotten, certain, known_cas = _forgotten(queues, draw, reset.seen)
    until = reset.seen if forgotten else reset.command
    other = _overwriting(queues, store, known_cas if forgotten else reset.at, until)
    if other:
        return _overwritten(other)
    if forgotten:
        what = "lock" if reset.kind == "cold" else "pointer"
        why = f"memcached forgot what it held: the {what}, that was there before, was missing."
        return Finding("wiped", certain, why, reset.seen, "memcached")
    why = "The queue was in use when another process, that had found it missing, began it anew."
    if reset.seen and queues.refused_before(reset.seen):
        why = "memcached had refused a store and dropped that key, so the queue was begun anew."
    return Finding("cold-reset", certain, why, reset.command)


def _passed_by(queues: Queues, draw: Command, store: Command, reset: Reset) -> Finding:
    """A drain set the pointer back and did not take the vote."""
    assert reset.command is not None
    look = reset.seen
    certain = reset.numbered
    if look is not None and look.status == Status.MISSING:
        forgotten, sure, _ = _forgotten(queues, draw, look)
        if forgotten:
            why = "memcached forgot what it held: the drain found no pointer."
            return Finding("wiped", sure, why, look, "memcached")
        if queues.refused_before(look):
            why = "memcached had refused a pointer and dropped it, so the drain found none."
            return Finding("skipped", True, why, reset.command)
    reads = queues.select(store, reads=True, who=reset.command.who)
    if not reads:
        if queues.select(store, reads=True, who=reset.command.who, anywhere=True):
            why = "The drain looked for it on another daemon, and set the pointer back."
            return Finding("moved", True, why, reset.command)
        return _not_read(queues, draw, store, reset)
    if store.daemon != reset.command.daemon:
        after_reset = Order.before(reset.command, store) is True
    else:
        after_reset = store.cas > reset.at
    if after_reset:
        why = "It came into its slot after a drain had read the slots and set the pointer back."
        return Finding("stored-late", certain, why, reset.command)
    read = reads[-1]
    late = (
        "The drain had read its slot before the vote came into it, and then set the pointer back."
    )
    if read.status == Status.OK:
        if read.cas < store.cas:
            return Finding("stored-late", certain, late, reset.command)
        other = _overwriting(queues, store, read.cas + 1)
        if other:
            return _overwritten(other)
        why = "Another message lay in its slot, that no process of this trial had stored."
        return Finding("overwritten", True, why, read, "outside")
    if read.status == Status.MISSING:
        if read.life > store.life >= 0:
            why = "memcached was started again, and began with nothing."
            return Finding("wiped", True, why, read, "memcached")
        after = Order.before(store, read)
        if after is True:
            return _vanished(queues, store, read, reset)
        return Finding("stored-late", after is False, late, reset.command)
    why = "The drain got no answer when it read the slot, and set the pointer back all the same."
    return Finding("skipped", certain, why, reset.command)


def _not_read(queues: Queues, draw: Command, store: Command, reset: Reset) -> Finding:
    look = reset.seen
    if look is not None and look.status == Status.OK and look.cas > draw.cas:
        why = "The drain found a lower number than had been drawn, that nobody here had written."
        unheard = any(
            r.command and r.command.begin_ns < look.end_ns for r in queues.unnumbered[draw.place]
        )
        return Finding("foreign-reset", not unheard, why, look, "outside")
    other = _overwriting(queues, store, reset.at, reset.command)
    if other:
        return _overwritten(other)
    why = "A drain that had read the pointer before the slot was drawn set it back."
    if look is not None and look.status in SILENT:
        why = "A drain that had no answer when it read the pointer set it back all the same."
    return Finding("skipped", reset.numbered, why, reset.command)


def _vanished(queues: Queues, store: Command, read: Command, reset: Reset) -> Finding:
    """The drain found the slot empty although the vote had been in it."""
    refused = [
        c
        for c in queues.select(store, reads=False, status=Status.REFUSED)
        if store.end_ns < c.begin_ns < read.begin_ns
    ]
    if refused:
        why = "memcached had no room for another message in its slot and dropped the vote too."
        return Finding("evicted", True, why, refused[0])
    assert reset.command is not None
    if queues.last_ok_read(read) > read.begin_ns:
        why = (
            "Its slot was empty and later slots were not: memcached dropped it, or it was deleted."
        )
        return Finding("evicted", True, why, read, "memcached")
    if queues.lock_lived(store.place, read.end_ns, reset.command.begin_ns):
        why = "Its slot was empty and the lock was there: memcached dropped it, or it was deleted."
        return Finding("evicted", True, why, read, "memcached")
    why = "From its slot on all were empty: memcached forgot what it held while a drain read it."
    return Finding("wiped", False, why, read, "memcached")


def _without_reset(queues: Queues, draw: Command, store: Command) -> Finding:
    """Nobody set the pointer back after the draw, as far as is known."""
    if queues.life_ended(store.daemon, store.life):
        why = "memcached was started again, and began with nothing."
        return Finding(
            "wiped", True, why, queues.pointer_after(draw.place, store.end_ns), "memcached"
        )
    unheard = [
        r
        for r in queues.unnumbered[draw.place]
        if r.command and r.command.begin_ns > store.begin_ns
    ]
    if unheard:
        why = "A drain that did not take it set the pointer back; the reply to that was lost."
        return Finding("skipped", False, why, unheard[0].command)
    gone = queues.pointer_after(draw.place, store.end_ns)
    if gone and gone.status == Status.MISSING:
        why = "memcached forgot what it held: the pointer was missing."
        return Finding("wiped", True, why, gone, "memcached")
    return _moved_or_unknown(queues, store, draw)


def _moved_or_unknown(queues: Queues, store: Command, draw: Command) -> Finding:
    if queues.others_drained(store, draw.daemon):
        why = "It lies on one daemon, and the drains that came after asked another."
        return Finding("moved", True, why, store)
    return Finding(UNKNOWN, False, "It was stored, and nothing in the journal says why it is gone.")


def _lost_ticket(queues: Queues, store: Command) -> Finding:
    """A vote in a slot of its own: it is there until the head passes it, unless it vanishes."""
    closed = [
        c for c in queues.select(store, reads=False, status=Status.OK)
        if not c.vote and c.command == ADD and c.life == store.life and c.cas < store.cas
    ]  # fmt: skip
    if closed:
        why = "Its slot had been closed and had opened again; the head had passed it."
        return Finding("stored-late", True, why, closed[-1])
    missing = [
        read for read in queues.select(store, reads=True, status=Status.MISSING)
        if Order.before(store, read) is True
    ]  # fmt: skip
    draw = draw_of(queues, store) or store
    if not missing:
        return _forgotten_ticket(queues, draw, store)
    read = missing[0]
    if read.life > store.life >= 0:
        why = "memcached was started again, and began with nothing."
        return Finding("wiped", True, why, read, "memcached")
    refused = [
        c for c in queues.select(store, reads=False, status=Status.REFUSED)
        if not c.vote and c.end_ns > store.begin_ns and c.begin_ns < read.begin_ns
    ]  # fmt: skip
    if refused:
        why = "memcached had no room for a tombstone in its slot, and dropped the vote with it."
        return Finding("evicted", True, why, refused[0])
    later = queues.pointer_after(draw.place, read.end_ns)
    if later is None:
        why = "Its slot was empty when a drain looked: memcached dropped it."
        return Finding("evicted", False, why, read, "memcached")
    if later.status == Status.OK and epoch_of(later.number) == epoch_of(store.slot):
        why = (
            "Its slot was empty and the pointer was there: memcached dropped it, or it was deleted."
        )
        return Finding("evicted", True, why, read, "memcached")
    why = "memcached forgot what it held: its slot was empty, and the pointer was another or none."
    return Finding("wiped", True, why, read, "memcached")


def _forgotten_ticket(queues: Queues, draw: Command, store: Command) -> Finding:
    """No drain looked into the slot afterwards."""
    later = queues.pointer_of_other_epoch(draw.place, store)
    if later or queues.life_ended(store.daemon, store.life):
        why = "memcached forgot what it held: the pointer that had counted it was gone."
        return Finding("wiped", True, why, later, "memcached")
    elsewhere = [
        read
        for read in queues.select(store, reads=True, status=Status.MISSING, anywhere=True)
        if read.daemon != store.daemon and Order.before(store, read) is True
    ]
    if elsewhere:
        why = "The drain looked for it on another daemon, found nothing, and passed by."
        return Finding("moved", True, why, elsewhere[0])
    return _moved_or_unknown(queues, store, draw)
