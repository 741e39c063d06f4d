"""Compiled and linted workflows as JSON. Source: the OpenAPI document and the SDKs of ModelRelay."""

from __future__ import annotations

from msgspec import UNSET, Raw, Struct, UnsetType

from proxy.wire.flat import Problem


class Compiled(Struct, frozen=True, kw_only=True):
    """A plan, and the SHA-256 of it by which runs can be started."""

    plan_json: Raw
    plan_hash: str


class Linted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is wrong with a spec, and what is doubtful; the plan where it compiles and was asked for."""

    kind: str = ""
    lint_issues: tuple[Problem, ...] = ()
    compile_issues: tuple[Problem, ...] = ()
    plan_json: Raw | UnsetType = UNSET
    plan_hash: str | UnsetType = UNSET
