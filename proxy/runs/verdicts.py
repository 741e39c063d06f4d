"""Ends that no agent gives its run: its process goes down, or was lost, or nobody is left to do it."""

from __future__ import annotations

from proxy.events import Failed
from proxy.transcript import LOST

__all__ = ["GOING_DOWN", "LOST", "RESTARTED", "UNREADABLE", "deserted"]

GOING_DOWN = Failed(
    code="server_shutting_down", message="The server is shutting down.", status=503, retryable=True, retry_after=1
)
RESTARTED = Failed(
    code="server_restarted", message="The server was restarted during the run.", status=503, retryable=True
)
UNREADABLE = Failed(code="internal_error", message="What the run was given cannot be read any more.")
"""Of a run that waited though its content is not to be kept, or for another version of this program."""


def deserted(agent: str) -> Failed:
    """The end of a run that waits for an agent which no process has."""
    return Failed(code="model_not_found", message=f"There is no agent `{agent}` any more.", status=404)
