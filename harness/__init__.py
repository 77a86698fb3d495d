"""pollstorm: what happens to the votes when the controversial poll goes on air.

Words that mean one thing each, throughout:

vote        what one voter wants counted; its `VoteId` comes from the client
attempt     a request that carries a vote; a voter who tries again makes another
ballot      the database's row for a vote; `deliveries` says how often the vote got there
once-only   of a poll: each voter is counted once at most; a vote too many is refused at the door,
            or else found at the count, and *rejected*
mode        a way for votes to get to the database: `direct`, `cached`, and by a queue `classic`,
            `owned`, `ticket`, `mirrored`
protocol    what a mode does to take a vote in and to drain its queue, written as generators
command     one step that a protocol asks for; a *reply* is what it is told; `drive` brings them
            together
machine     a protocol at work: one vote on its way in, or one drain
drain       one emptying of a queue by the flusher
daemon      one of the memcacheds that a queue lies on; `mirrored` has two
ticket      a slot's number that was drawn by one vote alone; the *head* is the last one drained
epoch       the life of one pointer in memcached; the database issues its number, never twice
tombstone   what a drain puts into an empty slot, so that a late vote does not land behind the head
lease       the right to calculate what a cache lacks; memcached gives it to one, for a while
grant       being let in by the lock: *clean* when `incr` gave 1, *cold* when there was no lock
            key, *takeover* when waiting was given up
overlap     two holders of the lock at one time, beyond doubt
ledger      the attempts as the voters saw them
journal     the commands of site and flusher, each with its reply
outcome     of an attempt: `acknowledged`, `refused` (written nowhere, for certain), `unknown`
audit       ledger, journal and ballots put side by side: accounts and a verdict
trial       one mode under the plan's load, once; a run consists of trials
step        of a capacity study: a trial at a constant rate, passed or failed by the objectives
duet        two versions of this project at once under the same load, compared slice by slice
target      a vote server of somebody else's, which is loaded and audited, not run
worker      another machine that plays a share of the load; in `site.workers` a process of the site
post        the first of the three blog posts that docs/design.md tells of: the queue of `classic`
schedule    the order in which the commands of several processes happen; one that loses a vote is
            a *witness*
fault       a trouble made on purpose; the *timetable* holds when, or at which step of a protocol

A reading order: `vote`, `protocol.classic`, `protocol.ticket`, `site.votes`, `flusher`,
`load.arrivals`, `load.voter`, `history.journal`, `audit.accounts`, `trial`, `run`; then what is
built over a trial: `capacity.search`, `capacity.stand`, `capacity.study`, `gate.check`.
"""

__version__ = "0.1.0"
