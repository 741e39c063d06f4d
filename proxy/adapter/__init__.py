"""The port for agents. Every adapter takes all it needs from here, and so does whoever uses one.

An adapter turns one kind of agent into a stream of events. It knows nothing of wires, runs or stores. `Adapter` is what
it must do, `RunInput` what it is given; `ThreadState` and `Blueprint` are for agents that keep their threads' state
themselves, or can say what they are made of.
"""

from proxy.adapter.base import Adapter, Model, NoOptions, Site
from proxy.adapter.blueprint import Blueprint
from proxy.adapter.run_input import Answer, Checkpoint, Command, Goto, Native, RunInput, thread_key
from proxy.adapter.threads import Asking, Mark, State, StateTask, ThreadName, ThreadState, Update

__all__ = [
    "Adapter",
    "Answer",
    "Asking",
    "Blueprint",
    "Checkpoint",
    "Command",
    "Goto",
    "Mark",
    "Model",
    "Native",
    "NoOptions",
    "RunInput",
    "Site",
    "State",
    "StateTask",
    "ThreadName",
    "ThreadState",
    "Update",
    "thread_key",
]
