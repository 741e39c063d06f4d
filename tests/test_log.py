from __future__ import annotations

import asyncio
import io
import json
import logging
import os
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import structlog

from proxy import log
from proxy.settings import Agent, Jwt, Key, Logs, Server, Settings, Webhooks

DIGEST = "0123456789abcdef" * 4
SETTINGS = Settings(
    store="postgresql://runwire:store-pass@db/runs",
    server=Server(
        api_keys=("sk-local", Key(name="b", key='sk-"b\\ö'), Key(name="c", sha256=DIGEST)),
        jwt=Jwt(secret="jwt-secret"),
    ),
    agents={
        "a": Agent(adapter="openai", options={"api_key": "up-key", "auth": {"tokens": ["in-list"]}, "model": "gpt"})
    },
    webhooks=Webhooks(allow=("hooks.example.com",), secret="signing"),
    log=Logs(format="json"),
)
SECRETS = ("store-pass", "sk-local", 'sk-"b\\ö', DIGEST, "jwt-secret", "signing", "up-key", "in-list")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def lines(file: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.getvalue().splitlines()]


def written(settings: Settings = SETTINGS) -> io.BytesIO:
    file = io.BytesIO()
    log.setup(settings, file)
    return file


def test_a_line_is_one_json_object_with_time_level_and_place() -> None:
    file = written()
    structlog.get_logger("proxy.x").info("run ended", run_id="r1", tokens=3)
    (line,) = lines(file)
    assert line.pop("at").endswith("Z")
    assert line == {"event": "run ended", "level": "info", "logger": "proxy.x", "run_id": "r1", "tokens": 3}


def test_no_configured_secret_leaves_by_any_door() -> None:
    file = written()
    logger = structlog.get_logger("x")
    for secret in SECRETS:
        logger.warning(f"say {secret}", field=secret, nested={"a": [secret]})
        logging.getLogger("library").warning("they say %s", secret)
        try:
            raise ValueError(secret)
        except ValueError:
            logger.exception("failed")
    text = file.getvalue().decode()
    assert len(lines(file)) == 3 * len(SECRETS)
    for secret in SECRETS:
        assert secret not in text
        assert json.dumps(secret, ensure_ascii=False)[1:-1] not in text
    assert "gpt" not in tuple(log.secrets(SETTINGS))


def test_the_console_form_is_scrubbed_too_and_shows_no_local_variables() -> None:
    file = written(Settings(server=SETTINGS.server, agents={}, log=Logs(format="console")))
    local = "what a user wrote"
    try:
        raise ValueError("sk-local")
    except ValueError:
        structlog.get_logger("x").exception("failed", run_id="r1")
    text = file.getvalue().decode()
    assert "run_id=r1" in text
    assert "ValueError: ***" in text
    assert local not in text


def test_other_libraries_come_out_in_the_same_form() -> None:
    file = written()
    logging.getLogger("uvicorn.error").info("started %s", 1)
    logging.getLogger("uvicorn.access").info("never")
    logging.getLogger("httpx").info("never")
    logging.getLogger("broken").warning("%d", "x")
    try:
        raise ValueError("inside")
    except ValueError:
        logging.getLogger("z").exception("failed")
    started, broken, failed = lines(file)
    assert (started["event"], started["logger"], started["level"]) == ("started 1", "uvicorn.error", "info")
    assert broken["event"] == "%d"
    assert "ValueError: inside" in failed["exception"]


def test_the_level_is_obeyed() -> None:
    file = written(Settings(agents={}, log=Logs(format="json", level="warning")))
    structlog.get_logger("x").info("no")
    logging.getLogger("y").info("no")
    structlog.get_logger("x").warning("yes")
    assert [line["event"] for line in lines(file)] == ["yes"]


@pytest.mark.parametrize("value", ["\ud800", 10**40, {1: 2}, {(1, 2): 3}, object(), b"\xff", float("nan"), {1, 2}])
def test_no_value_breaks_a_line(value: object) -> None:
    for form in ("json", "console"):
        file = written(Settings(agents={}, log=Logs(format=form)))  # type: ignore[arg-type]
        structlog.get_logger("x").info("odd", value=value)
        assert b"odd" in file.getvalue()
        assert file.getvalue().count(b"\n") == 1


def test_a_closed_file_is_no_error() -> None:
    file = written()
    file.close()
    structlog.get_logger("x").info("lost")


def test_a_terminal_is_never_told_what_to_do_by_a_client() -> None:
    file = written(msgspec.structs.replace(SETTINGS, log=Logs(format="console")))
    logger = structlog.get_logger("x")
    logger.info("request", path="/\x1b[2J\x9b\nINFO forged")
    try:
        raise ValueError("\x1b]0;title\x07")
    except ValueError:
        logger.exception("failed \x1b[31m")
    text = file.getvalue().decode()
    assert not set(text) & {"\x1b", "\x07", "\x9b"}
    assert "\nINFO forged" not in text
    assert "ValueError: \\x1b]0;title\\x07\n" in text


def test_on_a_loop_lines_are_written_together_and_an_error_brings_those_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log, "GATHER", 60.0)

    async def main() -> list[str]:
        file = written()
        logger = structlog.get_logger("x")
        logger.info("one")
        logger.info("two")
        assert lines(file) == []
        logger.error("three")
        return [line["event"] for line in lines(file)]

    assert asyncio.run(main()) == ["one", "two", "three"]


def test_what_was_gathered_is_written_when_logging_shuts_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log, "GATHER", 60.0)

    async def main() -> list[str]:
        file = written()
        structlog.get_logger("x").info("last words")
        for handler in logging.getLogger().handlers:
            handler.flush()  # as `logging.shutdown` does at the end of the process
        return [line["event"] for line in lines(file)]

    assert asyncio.run(main()) == ["last words"]


@pytest.mark.parametrize("name", ["store", "live"])
@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("postgresql://user:pa55word@host:5432/db", "pa55word"),
        ("redis://:pa55word@host/0", "pa55word"),
        ("postgresql://user:pa55[word@host/db", "pa55[word"),
        ("postgresql://user:pa55/word@host/db", "pa55/word"),
        ("redis://:pa5@5word@host/0", "pa5@5word"),
        ("postgresql://host/db?user=me&password=pa55word&sslmode=require", "pa55word"),
        ("postgresql://host:5432/db", None),
    ],
)
def test_passwords_of_urls_are_secrets(name: str, url: str, password: str | None) -> None:
    settings = msgspec.structs.replace(Settings(agents={}), **{name: url})
    assert [*log.secrets(settings)] == ([] if password is None else [password])


def test_lines_of_processes_that_share_a_file_carry_their_process() -> None:
    file = io.BytesIO()
    log.setup(SETTINGS, file, pid=True)
    structlog.get_logger("one").warning("something")
    assert [line["pid"] for line in lines(file)] == [os.getpid()]
