"""What became of each vote, what the lock did, and what follows from it. Reads histories only.

`accounts` settles the votes, `locks` reads the lock's story off the journal, `verdict` says what
both prove, and `examination` puts them together with the figures of `harness.analysis`.
"""
