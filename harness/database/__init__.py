"""MariaDB, through PyMySQL: our tables, connections that are never left half-read, what is in them.

`ballots` are the votes as counted, `voters` those who may be counted once only, `heads` how far
the queues have been drained; `link` says how a transaction may end, and `executor` carries out
what protocols ask of the database.
"""
