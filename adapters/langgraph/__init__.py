"""LangGraph agents that run in this process."""

from adapters.langgraph.inproc import LangGraphAdapter

__all__ = ["LangGraphAdapter"]
