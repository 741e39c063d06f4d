"""What has to be known of an adapter where it is not imported: in a server whose agents are run by workers.

An adapter registers its traits under the entry-point group `runwire.traits`, by the name it has in `runwire.adapters`,
in a module that imports no framework. One that registers none counts as having the defaults.
"""

from __future__ import annotations

import msgspec

from proxy.adapter import Adapter


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """Each as `Adapter` has it under the same name; `threads` and `blueprint` are true where those are set, `models`
    and `forgets` where the method of that name does something."""

    native: bool = False
    overrides_model: bool = False
    takes_tools: str = "ignore"
    resumes: bool = False
    threads: bool = False
    blueprint: bool = False
    models: bool = False
    forgets: bool = False

    @classmethod
    def of(cls, adapter: Adapter) -> Traits:
        """What an adapter really is."""
        kind = type(adapter)
        return cls(
            native=adapter.native,
            overrides_model=adapter.overrides_model,
            takes_tools=adapter.takes_tools,
            resumes=adapter.resumes,
            threads=adapter.threads is not None,
            blueprint=adapter.blueprint is not None,
            models=kind.models is not Adapter.models,
            forgets=kind.forget is not Adapter.forget,
        )

    def differences(self, other: Traits) -> list[str]:
        """The names of the traits that are not the same."""
        return [name for name in self.__struct_fields__ if getattr(self, name) != getattr(other, name)]
