"""Public tools for tests: the contracts of ports in executable form, and an agent that a test steps."""

from proxy.testing.adapters import BrokenContract, check_adapter
from proxy.testing.script import RunOver, Script, ScriptedRun
from proxy.testing.store import STORE_PROMISES, BrokenPromise, check_store

__all__ = [
    "STORE_PROMISES",
    "BrokenContract",
    "BrokenPromise",
    "RunOver",
    "Script",
    "ScriptedRun",
    "check_adapter",
    "check_store",
]
