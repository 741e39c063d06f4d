"""`memory://`: everything in this process, and gone with it."""
