"""Public tools for tests: the contracts of ports in executable form, and an agent that a test steps."""

from proxy.testing.adapters import BrokenContract, check_adapter
from proxy.testing.script import RunOver, Script, ScriptedRun

__all__ = ["BrokenContract", "RunOver", "Script", "ScriptedRun", "check_adapter"]
