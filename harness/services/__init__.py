"""Start and stop what a run stands on: memcached, MariaDB, the site, the flusher.

`processes` starts children and sees to it that none outlives the harness, `reaper` does so when
the harness was killed, `interruption` turns signals into one exception. `memcached`, `mariadb`,
`site` and `flusher` start one service each and return when it answers; a `service` can be brought
down by a fault and is started again as it was; `stack` starts all that one
mode needs. What the services do is not known here.
"""
