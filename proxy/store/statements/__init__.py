"""What is asked of a database, as functions of a connection; for every SQL store."""
