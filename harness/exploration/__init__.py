"""Every order of a few processes' commands: the shortest schedule that loses a vote, or none.

Theory of operation
    A state is what all share (memcached's items, the database, what bounds are left) and where
    each process is. A machine is a deterministic function of its replies, so a process is where
    its replies have brought it; the two together are the whole state, equal states are one, and
    no generator is ever copied. The search goes breadth first by memcached commands, therefore
    the first loss that it meets is a shortest one.

What is abstracted, so that there is an end
    * A failed attempt for a lock leads back to where that attempt began. Naps take no time.
    * A lock's counter stops at 2: "held" is all that anyone learns from it.
    * The CAS of a lock's item says which process put it there, and other items have none.
    * A ballot's deliveries stop at 2.
    * Time stands still, but for one jump past a tombstone's life (`--expire-tombstones`).
    * The database forgets no epoch.
    * A lock whose owner is dead, or does not know that it has it, may expire at any time.
    * A vote is acknowledged with the last reply that its machine gets; what a wipe takes then was
      promised before it.

`bounds` says what may happen, `store` what is shared, `automaton` where a machine is, `suspended`
what it remembers there, `space` which states follow a state, `rows` and `search` visit them,
`symmetry` makes them fewer, `undisturbed` judges them, `chance` draws some of too many, and
`schedule`, `report`, `table` and `witness` tell what happened on the way.
"""
