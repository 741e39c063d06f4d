"""The files of a deployment against the program: what they name exists, and the times they give are long enough."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from proxy import config
from proxy.api.gate import PUBLIC
from proxy.cli import main
from proxy.server import longest_end
from proxy.settings import Settings

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "deploy" / "config.yaml"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
OURS = ("server", "worker", "migrate")
MANIFESTS: dict[tuple[str, str], Any] = {
    (manifest["kind"], manifest["metadata"]["name"]): manifest
    for path in ROOT.glob("deploy/kubernetes/*.yaml")
    for manifest in yaml.safe_load_all(path.read_text())
}
PODS = {
    name: MANIFESTS[kind, f"runwire-{name}"]["spec"]["template"]["spec"]
    for kind, name in (("Deployment", "server"), ("Deployment", "worker"), ("Job", "migrate"))
}
STORE = "postgresql://u:p@db/d"
VARIABLES = {"STORE_URL": STORE, "REDIS_URL": "redis://r", "RUNWIRE_API_KEY": "k"}


def settings() -> Settings:
    return config.read(CONFIG, VARIABLES).settings


def container(name: str) -> dict[str, Any]:
    [found] = PODS[name]["containers"]
    return dict(found)


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def commands() -> Iterator[tuple[str, list[str]]]:
    """Each command line that a deployment starts, by where it stands."""
    yield "Dockerfile", [*re.findall(r'"([^"]*)"', re.findall(r"^CMD (.*)$", DOCKERFILE, re.MULTILINE)[0])]
    yield "health", [*re.findall(r'"([^"]*)"', re.findall(r"CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)[0])][1:]
    yield from ((f"compose {name}", COMPOSE[name]["command"]) for name in OURS)
    yield from ((f"kubernetes {name}", container(name)["args"]) for name in PODS)


@pytest.mark.parametrize("command", [pytest.param(line, id=where) for where, line in commands()])
def test_every_command_is_one_of_ours_with_its_options(command: list[str]) -> None:
    name, *arguments = command
    found = main.commands[name]
    assert not found.hidden
    found.make_parser(click.Context(found)).parse_args(arguments)


def test_the_config_has_all_that_it_expands_and_shares_its_store() -> None:
    assert settings().shared
    assert settings().live == "redis://r"
    assert not settings().migrate
    assert config.read(CONFIG, VARIABLES | {"REDIS_URL": ""}).settings.live == ""
    assert {agent.execute for agent in settings().agents.values()} == {"server", "worker"}


def test_every_variable_of_the_config_is_set_in_each_process() -> None:
    named = set(re.findall(r"\$\{(\w+)", CONFIG.read_text()))
    assert named == set(VARIABLES)
    for name in OURS:
        assert set(COMPOSE[name]["environment"]) == named
        assert container(name)["envFrom"] == [{"secretRef": {"name": "runwire"}}]
    assert set(MANIFESTS["Secret", "runwire"]["stringData"]) == named


def test_the_config_is_mounted_where_a_process_looks_for_it() -> None:
    [folder] = re.findall(r"^WORKDIR (.*)$", DOCKERFILE.rpartition("\nFROM ")[2], re.MULTILINE)
    for name in OURS:
        assert COMPOSE[name]["volumes"] == [f"./deploy/config.yaml:{folder}/config.yaml:ro"]
        [mount] = [each for each in container(name)["volumeMounts"] if each["name"] == "config"]
        assert (mount["mountPath"], mount["subPath"]) == (f"{folder}/config.yaml", "config.yaml")
        assert {"name": "config", "configMap": {"name": "runwire-config"}} in PODS[name]["volumes"]
    kustomization = yaml.safe_load((ROOT / "deploy/kustomization.yaml").read_text())
    assert kustomization["configMapGenerator"] == [{"name": "runwire-config", "files": ["config.yaml"]}]
    assert {ROOT / "deploy" / path for path in kustomization["resources"]} == {*ROOT.glob("deploy/kubernetes/*.yaml")}


def test_the_port_is_the_same_everywhere() -> None:
    port = settings().server.port
    assert (settings().server.host, port) == ("0.0.0.0", 8000)
    assert f"EXPOSE {port}\n" in DOCKERFILE
    [url] = [each.default for each in main.commands["health"].params if each.name == "url"]
    assert url == f"http://127.0.0.1:{port}"
    assert COMPOSE["server"]["ports"] == [f"${{PORT:-8000}}:{port}"]
    for name in ("server", "worker"):
        [open_port] = container(name)["ports"]
        assert open_port["containerPort"] == port
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container(name)[probe]["httpGet"]["port"] == open_port["name"]
    for command in (COMPOSE["worker"]["command"], container("worker")["args"]):
        assert command[-2:] == ["--health", str(port)]
    [service] = MANIFESTS["Service", "runwire"]["spec"]["ports"]
    assert service["targetPort"] == container("server")["ports"][0]["name"]


@pytest.mark.parametrize("name", ["server", "worker"])
def test_probes_ask_for_what_is_there(name: str) -> None:
    paths = {
        probe: container(name)[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "readiness", "liveness")
    }
    assert paths == {"startup": "/health", "readiness": "/ready", "liveness": "/health"}
    assert set(paths.values()) <= PUBLIC


def test_everybody_gets_more_time_to_end_than_they_may_take() -> None:
    longest = longest_end(settings())
    assert longest == settings().server.drain + settings().runs.cancel_grace + 5, "the comments in the files say so"
    for name in ("server", "worker"):
        stop = container(name).get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])
        assert PODS[name]["terminationGracePeriodSeconds"] > seconds(stop[1]) + longest
        # With `--workers` a supervisor waits for its children, a little longer than they may take.
        assert seconds(COMPOSE[name]["stop_grace_period"]) > longest + 5


def test_nothing_starts_before_the_schema_is_there() -> None:
    for name in ("server", "worker"):
        assert COMPOSE[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert COMPOSE["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in ("postgres", "redis"):
        assert COMPOSE[name]["healthcheck"]["test"]
    # At its first start the image runs a server on the socket alone, which is not to be taken for the real one.
    assert "--host=127.0.0.1" in COMPOSE["postgres"]["healthcheck"]["test"]


@pytest.mark.parametrize("name", OURS)
def test_containers_may_do_as_little_as_possible(name: str) -> None:
    pod, rights = PODS[name], container(name)["securityContext"]
    [user] = re.findall(r"^USER (\d+):\d+$", DOCKERFILE, re.MULTILINE)
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == int(user)
    assert pod["automountServiceAccountToken"] is False
    assert rights == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container(name)["resources"]) == {"requests", "limits"}
    assert {"name": "scratch", "emptyDir": {}} in pod["volumes"]
    assert (COMPOSE[name]["read_only"], COMPOSE[name]["cap_drop"]) == (True, ["ALL"])


def test_selectors_find_their_pods() -> None:
    for name in ("server", "worker"):
        labels = MANIFESTS["Deployment", f"runwire-{name}"]["spec"]["template"]["metadata"]["labels"]
        assert MANIFESTS["Deployment", f"runwire-{name}"]["spec"]["selector"]["matchLabels"] == labels
        assert MANIFESTS["PodDisruptionBudget", f"runwire-{name}"]["spec"]["selector"]["matchLabels"] == labels
    assert MANIFESTS["Service", "runwire"]["spec"]["selector"] == {"app": "runwire", "part": "server"}


def test_all_that_is_copied_is_there_and_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {name for line in re.findall(r"^COPY (?!--)(.*)$", DOCKERFILE, re.MULTILINE) for name in line.split()[:-1]}
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_has_all_extras_and_what_is_pinned() -> None:
    assert "PIP_CONSTRAINT=/src/constraints.txt" in DOCKERFILE
    assert 'project["optional-dependencies"]' in DOCKERFILE
    assert DOCKERFILE.rpartition("USER ")[2].startswith("10001:10001\n")
