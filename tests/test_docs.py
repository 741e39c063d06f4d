"""The documentation against the code: every name that can be set is documented, and every documented name exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import pytest
from msgspec import NODEFAULT
from openai import OpenAI
from openai.types.chat import ChatCompletionUserMessageParam

from adapters.langgraph.options import GraphOptions
from adapters.openai.options import UpstreamOptions
from adapters.plain import PlainOptions
from proxy import config, errors, plugins, settings
from proxy.api.health import ENDPOINTS
from proxy.demo.library import library
from proxy.schema import fit
from proxy.wire.chat_request import ChatRequest, Extension
from tests.e2e.house import serving

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
TABLES: dict[str, type[msgspec.Struct]] = {
    "`config.yaml`": settings.Settings,
    "`worker`": settings.Worker,
    "`server`": settings.Server,
    "`server.api_keys[]`": settings.Key,
    "`server.jwt`": settings.Jwt,
    "`server.limits`": settings.RequestLimits,
    "`runs`": settings.Runs,
    "`runs.retention`": settings.Retention,
    "`runs.prices.*`": settings.Price,
    "`dialects.chat`": settings.Chat,
    "`dialects.langgraph`": settings.NativeDialect,
    "`dialects.workflows`": settings.WorkflowDialect,
    "`webhooks`": settings.Webhooks,
    "`agents.*`": settings.Agent,
    "`agents.*.show`": settings.Show,
    "`agents.*.limits`": settings.Limits,
    "`log`": settings.Logs,
    "`options` of `plain`": PlainOptions,
    "`options` of `langgraph`": GraphOptions,
    "`options` of `openai`": UpstreamOptions,
}
UNSET = {"folder"}
"""Fields that no file sets."""
VARIABLES = {"API_KEY": "sk-a", "KEY_B": "sk-b", "OPENAI_API_KEY": "sk-o"}
YAML = [
    pytest.param(text, id=f"{page.name}-{number}")
    for page in PAGES
    for number, text in enumerate(re.findall(r"^```yaml\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE))
]


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


def section(text: str, ending: str) -> str:
    """The section whose heading ends so, up to the next heading."""
    [found] = re.findall(rf"^## [^\n]*{re.escape(ending)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    return str(found)


def rows(text: str) -> list[list[str]]:
    """The cells of each row of the tables in `text`, without their heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0].startswith("`")]


def names(text: str) -> list[str]:
    return [row[0].strip("`") for row in rows(text)]


def shown(default: Any) -> str:
    """A default as the tables write it."""
    if default is NODEFAULT:
        return "required"
    if default is None:
        return "unset"
    if isinstance(default, msgspec.Struct):
        return "below"
    if isinstance(default, float):
        default = int(default) if default.is_integer() else default
    if isinstance(default, str) and default:
        return f"`{default}`"
    return f"`{msgspec.json.encode(default).decode().replace(',', ', ')}`"


def default_of(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default_factory is NODEFAULT else field.default_factory()


@pytest.mark.parametrize("heading", TABLES)
def test_every_setting_is_documented_with_its_default(heading: str) -> None:
    documented = {row[0].strip("`"): row[1] for row in rows(section(page("config.md"), f": {heading}"))}
    fields = {field.encode_name: default_of(field) for field in msgspec.structs.fields(TABLES[heading])}
    assert documented == {name: shown(default) for name, default in fields.items() if name not in UNSET}


@pytest.mark.parametrize("heading", TABLES)
def test_every_choice_of_a_setting_is_documented(heading: str) -> None:
    documented = {row[0].strip("`"): row[3] for row in rows(section(page("config.md"), f": {heading}"))}
    for name, kind in get_type_hints(TABLES[heading]).items():
        choices = set(words(kind)) if name in documented and not documented[name].startswith("As in") else set()
        assert all(f"`{choice}`" in documented[name] or choice in ("", "*") for choice in choices), name


def words(kind: Any) -> Iterator[str]:
    """The words that a type allows, wherever a `Literal` stands in it."""
    for inner in get_args(kind):
        if get_origin(kind) is Literal:
            yield inner
        else:
            yield from words(inner)


def test_every_struct_of_the_settings_has_a_table() -> None:
    structs = {
        found
        for found in vars(settings).values()
        if isinstance(found, type) and issubclass(found, settings.Strict) and found is not settings.Strict
    }
    assert structs - {settings.Dialects, settings.DeerFlowDialect} <= set(TABLES.values())


def test_every_request_parameter_has_its_row() -> None:
    documented = {
        name for row in names(section(page("parameters.md"), "each adapter support")) for name in row.split("`, `")
    }
    assert set(ChatRequest.__struct_fields__) <= documented


def test_every_choice_per_request_has_its_row() -> None:
    assert set(names(section(page("chat.md"), "per request"))) == set(Extension.__struct_fields__)


def test_every_error_code_is_documented_and_exists() -> None:
    documented = {row[0].strip("`"): row[1] for row in rows(section(page("chat.md"), "error codes mean"))}
    assert documented.keys() == codes()
    for kind in kinds(errors.ProxyError):
        if kind.code in documented and kind.__module__ == errors.__name__ and documented[kind.code]:
            assert documented[kind.code] == str(kind.status), kind


def kinds(base: type[errors.ProxyError]) -> Iterator[type[errors.ProxyError]]:
    for kind in base.__subclasses__():
        yield kind
        yield from kinds(kind)


def codes() -> set[str]:
    """Every literal that stands in the code as an error's code."""
    found = set[str]()
    sources = {*ROOT.glob("proxy/**/*.py"), *ROOT.glob("adapters/**/*.py")} - {*ROOT.glob("proxy/testing/*.py")}
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.keyword(arg="code", value=ast.Constant(value=str(code))):
                    found.add(code)
                case ast.Assign(targets=[ast.Name(id="code")], value=ast.Constant(value=str(code))):
                    found.add(code)
                case ast.Assign(targets=[ast.Name(id="_CODES")], value=ast.Dict(values=values)):
                    found |= {value.value for value in values if isinstance(value, ast.Constant)}
    return found


def test_every_endpoint_is_documented() -> None:
    table = section(page("chat.md"), "endpoints exist")
    for endpoint in ENDPOINTS:
        assert endpoint.removeprefix("GET ") in table


@pytest.mark.parametrize("text", YAML)
def test_every_example_of_a_config_loads(text: str, tmp_path: Path) -> None:
    if not re.search(r"^agents:", text, re.MULTILINE):
        text += "\nagents: {a: {adapter: plain}}\n"
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    for agent in config.read(path, VARIABLES).settings.agents.values():
        if agent.options:
            fit(agent.options, plugins.find(agent.adapter, folder=tmp_path).Options, "$")


def test_the_readmes_own_agents_answer(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    files = re.findall(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    for name, mark in (("agents.py", "async def answer"), ("graphs.py", "StateGraph")):
        [text] = [file for file in files if mark in file]
        (tmp_path / name).write_text(text, encoding="utf-8")
    [example] = re.findall(r"^```yaml\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    with serving(tmp_path, example, {"API_KEY": ""}) as server:
        client = OpenAI(base_url=server.base_url, api_key="none", max_retries=0)
        hello: ChatCompletionUserMessageParam = {"role": "user", "content": "hello"}
        for model, answer in (("mine", "You said: hello. I am a plain agent. "), ("support", "You said: hello")):
            said = client.chat.completions.create(model=model, messages=[hello])
            assert said.choices[0].message.content == answer


def test_every_link_leads_somewhere() -> None:
    broken = [
        f"{page.name}: {link}"
        for page in PAGES
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text("utf-8"))
        if not (page.parent / link).exists()
    ]
    assert not broken


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("How do I cancel a run?", "How to cancel a run"),
        ("How do I set an API key?", "How to set API keys"),
        ("How do I delete a run?", "How to delete a run"),
        ("How do I write an adapter?", "How to write an adapter"),
        ("How do I use nginx?", "nginx"),
        ("What does thread_busy mean?", "error codes mean"),
        ("What is the keepalive?", "kept alive"),
        ("How do I stop the server?", "How to stop the server"),
        ("How do I connect Open WebUI?", "Open WebUI|front ends"),
        ("How do I show tool calls?", "How to show tool"),
        ("Which parameters are supported?", "Which parameters"),
        ("How does it scale?", "scale"),
        ("How do I resume a stream?", "resume a stream"),
    ],
)
def test_the_demo_finds_the_page_that_answers(question: str, title: str) -> None:
    assert any(re.search(title, hit.title) for hit in library().search(question))


def test_every_test_that_is_promised_exists() -> None:
    """A page that says which test shows a promise names tests that there are."""
    named = {name for page in PAGES for name in re.findall(r"`(test_\w+)`", page.read_text("utf-8"))}
    source = "\n".join(file.read_text("utf-8") for file in (ROOT / "tests").rglob("test_*.py"))
    assert named
    assert named <= set(re.findall(r"def (test_\w+)", source))
