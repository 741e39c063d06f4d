"""`postgresql://`: records, logs and the queue in a database that many processes share.

Imported only where the configuration names it, since its driver is an extra.
"""
