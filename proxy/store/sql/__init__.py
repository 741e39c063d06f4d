"""What every SQL store is, and SQLite; the one of processes that share it is in `postgres`."""
