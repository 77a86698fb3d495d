"""memcached and the database as plain data, in which machines run in virtual time."""
