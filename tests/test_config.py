from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy import config
from proxy.errors import ConfigError
from proxy.settings import Key, Settings

AGENT = "agents: {a: {adapter: plain}}\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def loaded(folder: Path, text: str, **variables: str) -> Settings:
    return config.read(written(folder, text), variables).settings


def fault(folder: Path, text: str, **variables: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text, **variables)
    return caught.value.message


def test_a_whole_file_becomes_settings(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        """
store: sqlite:///runs.db
server:
  host: 127.0.0.1
  port: 8000
  api_keys: ["${API_KEY:-sk-local}", {name: team-b, key: "${KEY_B:-sk-b}", tenant: b}]
runs:      # nothing but this comment
agents:
  gpt:
    adapter: openai
    options: {base_url: "http://127.0.0.1:9000/v1", api_key: "${UPSTREAM_KEY:-none}", models: "*", prefix: "up/"}
""",
    )
    assert settings.server.api_keys == ("sk-local", Key(name="team-b", key="sk-b", tenant="b"))
    assert settings.agents["gpt"].options["api_key"] == "none"
    assert settings.store == f"sqlite:///{tmp_path}/runs.db"
    assert settings.folder == str(tmp_path)


@pytest.mark.parametrize("store", ["memory://", "sqlite:///:memory:", "sqlite:////var/lib/runs.db"])
def test_a_store_that_is_not_relative_stays_as_it_is(tmp_path: Path, store: str) -> None:
    assert loaded(tmp_path, f"store: '{store}'\n{AGENT}").store == store


def test_variables_are_filled_in_and_fit_numbers_and_bools(tmp_path: Path) -> None:
    text = 'server: {port: "${PORT}", host: "${HOST:-::1}"}\nruns: {keep_content: "${KEEP:-false}"}\n' + AGENT
    settings = loaded(tmp_path, text, PORT="9000")
    assert (settings.server.port, settings.server.host, settings.runs.keep_content) == (9000, "::1", False)


def test_a_default_stands_in_for_an_empty_variable_and_two_dollars_are_one(tmp_path: Path) -> None:
    text = 'agents: {a: {adapter: plain, options: {x: "${E:-d}$$${F}", y: "$5 $$$$ $${F}"}}}'
    assert loaded(tmp_path, text, E="", F="f").agents["a"].options == {"x": "d$f", "y": "$5 $$ ${F}"}


def test_the_value_of_a_variable_is_not_expanded_again_and_cannot_change_the_structure(tmp_path: Path) -> None:
    value = "${HOME}\n- {a: b}"
    text = 'agents: {a: {adapter: plain, options: {x: "${V}"}}}'
    assert loaded(tmp_path, text, V=value).agents["a"].options == {"x": value}


def test_an_unset_variable_is_named_with_its_place(tmp_path: Path) -> None:
    text = 'agents:\n  a:\n    adapter: plain\n    options: {key: "${NOPE}"}\n'
    assert fault(tmp_path, text) == "config.yaml:4: `NOPE` is not set - at `$.agents.a.options.key`"


@pytest.mark.parametrize("text", ["${A-b}", "${", "${1}", "${A:-${B}}"])
def test_a_reference_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    assert "`$$`" in fault(tmp_path, f"agents: {{a: {{adapter: plain, options: {{x: '{text}'}}}}}}", B="b")


@pytest.mark.parametrize("value", ["", "false", "No", "OFF", "0"])
def test_an_agent_that_is_off_needs_none_of_its_variables(tmp_path: Path, value: str) -> None:
    text = (
        'agents:\n  a: {adapter: plain}\n  b: {adapter: openai, enabled: "${KEY:-}", options: {api_key: "${KEY}",'
        ' url: "${NOPE}"}}\n'
    )
    read = config.read(written(tmp_path, text), {"KEY": value})
    assert set(read.settings.agents) == {"a"}
    assert read.off == (config.Off(name="b", variables=("KEY",)),)


def test_an_agent_that_a_key_turns_on_does_not_carry_the_key_as_its_switch(tmp_path: Path) -> None:
    assert loaded(tmp_path, 'agents: {a: {adapter: plain, enabled: "${K:-}"}}', K="sk-1").agents["a"].enabled is True


def test_leaving_out_every_agent_is_a_fault(tmp_path: Path) -> None:
    assert "every agent is left out" in fault(tmp_path, "agents: {a: {adapter: plain, enabled: false}}")


def test_empty_keys_are_no_keys(tmp_path: Path) -> None:
    assert loaded(tmp_path, 'server: {api_keys: ["${K:-}", b]}\n' + AGENT).server.api_keys == ("b",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            AGENT + "runs:\n  keepalve: 1\n  timeout: 5\n",
            "config.yaml:3: unknown field `keepalve` - at `$.runs`",
        ),
        (
            AGENT + "dialects: {chat: {keepalve: 1}}\n",
            "config.yaml:2: unknown field `keepalve`; did you mean `keepalive`? - at `$.dialects.chat`",
        ),
        (AGENT + "servre: {}\n", "config.yaml:2: unknown field `servre`; did you mean `server`? - at `$`"),
        (AGENT + "folder: /\n", "config.yaml:2: unknown field `folder` - at `$`"),
        (
            "agents:\n  gpt-4.1:\n    adaptor: plain\n",
            "config.yaml:3: unknown field `adaptor`; did you mean `adapter`? - at `$.agents.gpt-4.1`",
        ),
        (
            "agents:\n  gpt-4.1:\n    description: A\n",
            "config.yaml:2: missing field `adapter` - at `$.agents.gpt-4.1`",
        ),
        (
            "agents:\n  a:\n    adapter: plain\n    show: {tools: shown}\n",
            "config.yaml:4: 'shown' is not one of `details`, `hidden`, `reasoning` - at `$.agents.a.show.tools`",
        ),
        (AGENT + "server: {port: many}\n", "config.yaml:2: expected a whole number, got text - at `$.server.port`"),
        (AGENT + "server: {cors: '*'}\n", "config.yaml:2: expected a list, got text - at `$.server.cors`"),
        (
            AGENT + "server:\n  api_keys:\n  - a\n  - {name: b, kye: c}\n",
            "config.yaml:5: unknown field `kye`; did you mean `key`? - at `$.server.api_keys[1]`",
        ),
        ("agents: {}\n", "config.yaml:1: there is no agent: name one or more under `agents:` - at `$`"),
        ("- a\n", "config.yaml: expected a mapping with `agents:` at the top"),
        ("", "config.yaml: expected a mapping with `agents:` at the top"),
    ],
)
def test_a_fault_names_line_place_and_cure(tmp_path: Path, text: str, message: str) -> None:
    assert fault(tmp_path, text) == message


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    text = "agents:\n  a: {adapter: plain, x: 1}\n  b: {adapter: '${NOPE}'}\nserver: {port: -1}\n"
    lines = fault(tmp_path, text).splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["config.yaml:2", "config.yaml:3", "config.yaml:4"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("agents: {a: {adapter: plain}, a: {adapter: plain}}", "`a` stands here twice"),
        ("agents: [", "config.yaml:1: "),
        ("agents: {a: !!python/object/apply:os.system ['true']}", "python/object/apply:os.system` is not allowed"),
        ("agents: {a: !!binary aGk=}", "is not allowed here"),
        ("agents: &x {a: *x}", "does an alias contain itself?"),
        ("agents: {a: *nowhere}", "config.yaml:1: "),
        ("agents: !!int many", "not a value of the kind `int`"),
        ("{? [a] : b}", "a name must be plain text"),
        ("agents: " + "[" * 5000, "nested too deeply"),
        ("agents: \x01", "config.yaml: "),
        ("a: b\n---\nc: d\n", "config.yaml:2: "),
        ("x" * 1_000_001, "larger than"),
    ],
)
def test_yaml_that_is_not_plain_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    assert words in fault(tmp_path, text)


@pytest.mark.parametrize(
    "link", ["[*{0},*{0},*{0},*{0},*{0},*{0},*{0},*{0},*{0},*{0}]", "{{<<: [*{0},*{0},*{0},*{0}], k{1}: 1}}"]
)
def test_aliases_cannot_multiply_without_bound(tmp_path: Path, link: str) -> None:
    lines = ["a0: &a0 {k: v}"] + [f"a{n}: &a{n} {link.format(f'a{n - 1}', n)}" for n in range(1, 12)]
    assert "do aliases multiply?" in fault(tmp_path, "\n".join(lines))


def test_anchors_share_what_agents_have_in_common(tmp_path: Path) -> None:
    text = (
        "agents:\n  a: &common {adapter: plain, timeout: 5, options: {x: 1}}\n  b: {<<: *common, timeout: 7}\n"
        "  c: {<<: [{timeout: 9}, *common]}\n"
    )
    agents = loaded(tmp_path, text).agents
    assert [(agent.adapter, agent.timeout, agent.options) for agent in agents.values()] == [
        ("plain", 5, {"x": 1}),
        ("plain", 7, {"x": 1}),
        ("plain", 9, {"x": 1}),
    ]


def test_names_are_text_even_where_yaml_sees_something_else(tmp_path: Path) -> None:
    assert set(loaded(tmp_path, "agents: {1: {adapter: plain}, on: {adapter: plain}}").agents) == {"1", "on"}


def test_a_missing_file_is_named_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no .*nothing\.yaml; `runwire init`"):
        config.load(tmp_path / "nothing.yaml")


def test_without_a_path_the_current_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, AGENT)
    monkeypatch.chdir(tmp_path)
    assert set(config.load().agents) == {"a"}
    assert config.load().folder == str(tmp_path)


def test_the_shipped_file_serves_any_folder_and_keeps_its_state_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    read = config.read()
    assert read.shipped
    assert {"demo", "echo"} <= set(read.settings.agents)
    assert read.settings.store == f"sqlite:///{tmp_path}/runs.db"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("store", ["memory://", "sqlite:///runs.db"])
def test_what_needs_a_shared_store_is_refused_with_place_and_cure(tmp_path: Path, store: str) -> None:
    text = f"""store: {store}
live: redis://127.0.0.1
agents:
  a: {{adapter: plain}}
  b: {{adapter: plain, execute: worker}}
"""
    live, execute = fault(tmp_path, text).splitlines()
    assert live.startswith("config.yaml:2: `live`")
    assert live.endswith("set it to postgresql://... - at `$.live`")
    assert execute.startswith("config.yaml:5: `execute: worker`")
    assert execute.endswith("set it to postgresql://... - at `$.agents.b.execute`")


def test_with_a_shared_store_it_is_fine(tmp_path: Path) -> None:
    text = "store: postgresql://h/d\nlive: redis://h\nagents: {a: {adapter: plain, execute: worker}}\n"
    assert loaded(tmp_path, text).shared
