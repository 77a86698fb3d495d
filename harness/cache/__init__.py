"""memcached, through pymemcache's own client: commands with their CAS, and read-through totals.

`meta_client` speaks to one daemon, `breaker` remembers that it does not answer, and `executor`
carries out what protocols ask of all of them.
"""
