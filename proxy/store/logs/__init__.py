"""Logs in this process: what their owners write, what comes from elsewhere, and who follows it."""
