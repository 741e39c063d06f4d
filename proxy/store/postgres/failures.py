"""What PostgreSQL's errors mean: for a write, for a caller, and for whoever has configured it."""

from __future__ import annotations

import re

import psycopg
from sqlalchemy.engine import URL

from proxy.errors import BadRequest, ConfigError

AWAY = ("08", "53", "57P", "58", "25006", "25P03", "25P04")
"""SQLSTATEs of a database that takes nothing: connection lost, out of something, going down or coming up, out of
order, read only, and transactions that took too long."""
COLLISIONS = ("40001", "40P01", "23505")
"""Serialization failure, deadlock; and a row that another process has inserted first: the next try finds it."""
VALUES = ("22021", "22P05", "22003")
"""Characters and numbers that it does not have."""
CURES = (
    ("password authentication failed", "correct the user or the password"),
    ("no password supplied", "put the password into it, say as `${DB_PASSWORD}`"),
    ("does not exist", "create it, or correct the name"),
    ("no pg_hba.conf entry", "let this host in by the server's pg_hba.conf, or connect with `?sslmode=require`"),
    ("permission denied", "give this user the rights to create and use tables in its schema"),
    ("could not translate host name", "correct the host"),
    ("failed to resolve host", "correct the host"),
    ("too many", "raise the server's `max_connections`; each process of ours takes six"),
    ("starting up", "start this process again when it is up"),
    ("read-only", "name a server that can be written, not a replica"),
)
REACH = "start the server, or correct host and port"


def state_of(error: BaseException) -> str | None:
    """The SQLSTATE of an error of the driver; None of any other, empty where the server has not said any."""
    fault = getattr(error, "orig", error)
    return (fault.sqlstate or "") if isinstance(fault, psycopg.Error) else None


def is_away(error: BaseException) -> bool:
    state = state_of(error)
    if state == "":  # the driver's own words: it lost the connection, or never had it
        return isinstance(getattr(error, "orig", error), psycopg.OperationalError | psycopg.InterfaceError)
    return state is not None and state.startswith(AWAY)


def is_collision(error: BaseException) -> bool:
    return state_of(error) in COLLISIONS


def refusal(error: BaseException) -> BadRequest | None:
    """What is told to who asked for a value that PostgreSQL does not have, such as a text with a NUL in it."""
    state = state_of(error)
    by_the_driver = state == "" and "NUL (0x00)" in str(getattr(error, "orig", error))
    if not by_the_driver and state not in VALUES:
        return None
    return BadRequest("A text with a NUL character, or a number too large, cannot be kept in or looked for here.")


def unusable(url: URL, error: BaseException) -> ConfigError:
    """Why a database cannot be used, and what to do. The driver's messages do not contain the password."""
    fault = str(getattr(error, "orig", None) or error).strip()
    said = re.search(r"FATAL: +(.+)|failed: (?!.*failed: )(.+)|(.+)", fault)
    why = next(filter(None, said.groups())) if said is not None else type(error).__name__
    cure = next((cure for words, cure in CURES if words in fault), REACH)
    place = f"{url.host or 'localhost'}:{url.port or 5432}/{url.database or ''}"
    return ConfigError(f"`store`: the PostgreSQL database {place} cannot be used ({why[:300]}); {cure}.")
