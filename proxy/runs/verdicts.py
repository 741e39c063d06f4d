"""What becomes of a run whose process goes down or was lost, or that nobody is left to do: it goes on, or ends so."""

from __future__ import annotations

from proxy.events import NULL, Failed
from proxy.model import Run
from proxy.runs.agents import Agent
from proxy.transcript import LOST

__all__ = ["GOING_DOWN", "LOST", "RESTARTED", "UNREADABLE", "deserted", "goes_on"]

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


def goes_on(run: Run, agent: Agent | None, attempts: int) -> bool:
    """Whether a run that lost its process, or is to be handed over by it, may begin again; `attempts` bounds how often
    it begins, not counting those that followed a hand-over, where nothing had failed."""
    return (
        agent is not None
        and agent.settings.retry == "resume"
        and agent.adapter.resumes
        and not run.temporary
        and run.input != NULL
        and run.losses < attempts
    )
