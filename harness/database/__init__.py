"""MariaDB, through PyMySQL: our own tables, connections that are never left half-read, ballots."""
