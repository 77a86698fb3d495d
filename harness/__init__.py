"""pollstorm: what happens to the votes when the controversial poll goes on air.

The words, one meaning each:

vote        one wish of a voter to be counted, with a `VoteId` minted by the client
attempt     one request that carries a vote; one ledger row each
ballot      a vote as counted: one database row per vote id, with its number of `deliveries`
mode        how votes travel to the database: `direct`, `cached`, `classic`
protocol    the memcached algorithm of a queue mode, as generators that touch no socket and no clock
command     what a protocol yields; *reply* is what it gets back; `drive` runs one over the other
drain       the flusher's read of a queue
grant       the moment a process may enter: *clean* (`incr` gave 1), *takeover* (patience ran out),
            *cold* (the lock key was missing)
overlap     two processes certainly inside the critical section at once
ledger      what voters saw; *journal* what site and flusher did; *ballots* what the database holds
outcome     `acknowledged`, `refused` (definitely written nowhere) or `unknown`
audit       planned ids × ledger × ballots × journal → accounts and verdict
trial       one mode driven once through the plan; a run has one for each mode and repetition
fault       one injected trouble; a *timetable* says when, or at which protocol step

Read in this order: `vote`, `protocol.classic`, `modes.queued`, `site.api`, `flusher`,
`load.arrivals`, `load.voter`, `history.journal`, `audit.accounts`, `run`.
"""

__version__ = "0.1.0"
