"""memcached, through pymemcache's own client: commands with their CAS, and read-through totals."""
