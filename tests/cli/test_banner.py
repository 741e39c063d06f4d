from __future__ import annotations

import pytest

from proxy.cli import banner
from proxy.settings import Settings


@pytest.mark.parametrize(
    ("store", "shown"),
    [
        ("sqlite:////srv/runs.db", "sqlite:////srv/runs.db"),
        ("postgresql://db.example:5432/runs", "postgresql://db.example:5432/runs"),
        ("postgresql://me:hunter2@db.example:5432/runs", "postgresql://db.example:5432/runs"),
        ("postgresql://me:hun/ter2@db.example/runs", "postgresql://db.example/runs"),
        ("postgresql://me:hun?ter2@db.example/runs", "postgresql://db.example/runs"),
        ("postgresql://db.example/runs?user=me&password=hunter2", "postgresql://db.example/runs"),
        ("postgresql:///runs?host=/run/postgresql&password=hun@ter2", "postgresql:///runs"),
    ],
)
def test_where_runs_are_kept_is_shown_without_a_password(store: str, shown: str) -> None:
    assert banner.state(Settings(agents={}, store=store)) == shown
