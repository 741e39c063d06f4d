from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result

from proxy.cli import main
from proxy.store.migrations import HEAD
from tests.store.databases import database

CONFIG = """
store: {store}
migrate: false
agents:
  echo: {{adapter: plain, options: {{function: "proxy.demo.echo:echo"}}}}
  demo: {{adapter: langgraph, execute: {execute}, options: {{graph: "proxy.demo.assistant:graph"}}}}
"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with database() as made:
        yield made.url


def runwire(folder: Path, store: str, *arguments: str) -> Result:
    path = folder / "config.yaml"
    path.write_text(CONFIG.format(store=store, execute="worker" if store.startswith("postgresql") else "server"))
    return CliRunner().invoke(main, ["migrate", "--config", str(path), *arguments])


def test_an_empty_database_is_behind_and_one_call_brings_it_up_to_date(tmp_path: Path, postgres: str) -> None:
    behind = runwire(tmp_path, postgres, "--check")
    assert (behind.output, behind.exit_code) == (f"the schema is to be brought from version 0 (nothing) to {HEAD}\n", 1)
    with psycopg.connect(postgres) as connection:
        assert tables(connection) == set()

    made = runwire(tmp_path, postgres)
    assert (made.output, made.exit_code) == (f"the schema was brought from version 0 (nothing) to {HEAD}\n", 0)
    with psycopg.connect(postgres) as connection:
        assert {"runs", "servers", "checkpoints", "store"} <= tables(connection)

    for arguments in ([], ["--check"]):
        again = runwire(tmp_path, postgres, *arguments)
        assert (again.output, again.exit_code) == (f"the schema is up to date ({HEAD})\n", 0)


def test_a_database_of_a_newer_version_is_never_touched(tmp_path: Path) -> None:
    with database() as made:
        assert runwire(tmp_path, made.url).exit_code == 0
        made.ask("UPDATE alembic_version SET version_num = '9999'")
        assert runwire(tmp_path, made.url, "--check").exit_code == 1
        refused = runwire(tmp_path, made.url)
        assert refused.exit_code == 1
        assert "a newer version of Runwire made its schema (9999)" in refused.output


def test_a_file_is_brought_up_to_date_as_well(tmp_path: Path) -> None:
    assert runwire(tmp_path, "sqlite:///runs.db", "--check").exit_code == 1
    assert not (tmp_path / "runs.db").exists()
    assert runwire(tmp_path, "sqlite:///runs.db").exit_code == 0
    assert runwire(tmp_path, "sqlite:///runs.db", "--check").exit_code == 0


def test_a_database_that_is_not_there_is_told_with_the_cure(tmp_path: Path) -> None:
    refused = runwire(tmp_path, "postgresql://root:secret@127.0.0.1:1/nothing", "--check")
    assert refused.exit_code == 1
    assert "127.0.0.1:1/nothing cannot be used" in refused.output
    assert "secret" not in refused.output


def tables(connection: psycopg.Connection[tuple[str]]) -> set[str]:
    rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return {name for (name,) in rows}
