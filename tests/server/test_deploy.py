"""The files of cloud/deploy name what exists: images, users, options, ports, variables, entry points. None is run here."""

import importlib
import json
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.load.cluster import DEPLOY, ROOT, read_environment, serve_configuration

from sfumato.cli.main import load
from sfumato.server.auth import VARIABLE
from sfumato.server.scale_out import RayConfig

RAY = os.environ.get("SFUMATO_RAY", "")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
Instruction = tuple[str, str]


@pytest.fixture(scope="module")
def stages() -> dict[str, list[Instruction]]:
    """Name of each stage of the Containerfile -> its instructions, with the stage's own FROM first."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Containerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    found: dict[str, list[Instruction]] = {}
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            if word == "FROM":
                stage = found.setdefault(rest.split(" AS ")[1], [])
            stage.append((word, rest.strip()))
    return found


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    """Kind -> resource."""
    text = (DEPLOY / "rayservice.yaml").read_text(encoding="utf-8")
    return {one["kind"]: one for one in yaml.safe_load_all(text)}


@pytest.fixture(scope="module")
def groups(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """The head and its workers."""
    cluster = manifest["RayService"]["spec"]["rayClusterConfig"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def container(group: dict[str, Any]) -> dict[str, Any]:
    (found,) = group["template"]["spec"]["containers"]
    return dict(found)


def test_every_stage_is_pinned_and_the_last_runs_as_nobody_special(
    stages: dict[str, list[Instruction]],
) -> None:
    known = {"FROM", "RUN", "COPY", "WORKDIR", "ENV", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
    for name, lines in stages.items():
        assert {word for word, _ in lines} <= known
        base = lines[0][1].split(" AS ")[0]
        assert base in stages or re.fullmatch(r"docker\.io/library/python:\d+\.\d+\.\d+-[a-z-]+", base), base
        for word, rest in lines:
            assert word != "ENV" or not re.search(r"TOKEN|KEY|SECRET|PASSWORD", rest)
            if word == "COPY" and not rest.startswith("--from"):
                assert all((ROOT / source).exists() for source in rest.split()[:-1]), rest
            elif word == "COPY":
                assert rest.split()[0].removeprefix("--from=") in stages
        if name in ("serve", "ray"):
            (user,) = [rest for word, rest in lines if word == "USER"]
            assert user.isdecimal()
            assert int(user) > 0
    assert list(stages)[-1] == "serve"
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    (uv,) = re.findall(r"uv==([\d.]+)", text)
    assert f"uv=={uv}" in PROJECT["optional-dependencies"]["dev"]
    assert "--extra server" in text
    assert "server" in PROJECT["optional-dependencies"]
    assert set(re.findall(r"-t (\S+) ", text)) == {
        f"{name}:{PROJECT['version']}" for name in ("sfumato", "sfumato-ray")
    }


def test_the_container_starts_the_service_at_the_port_that_it_asks(
    stages: dict[str, list[Instruction]],
) -> None:
    lines = dict(stages["serve"])
    entry, command = json.loads(lines["ENTRYPOINT"]), json.loads(lines["CMD"])
    assert entry == list(PROJECT["scripts"])
    name, *arguments = command
    parser = load(name)
    given = parser.make_context(name, list(arguments)).params  # refuses an option that does not exist
    assert (given["export"], given["host"], str(given["port"])) == (
        Path("/srv/export"),
        "0.0.0.0",
        lines["EXPOSE"],
    )
    check = lines["HEALTHCHECK"]
    assert f"http://127.0.0.1:{given['port']}/readyz" in check
    code = json.loads(check[check.index("CMD ") + 4 :])
    assert code[:2] == ["python", "-c"]
    compile(code[2], "HEALTHCHECK", "exec")


def test_the_manifest_starts_what_the_code_exports(manifest: dict[str, Any]) -> None:
    config = serve_configuration()
    (application,) = config["applications"]
    module, _, name = application["import_path"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))
    args = RayConfig(**application["args"])  # refuses an argument that does not exist
    assert args.replicas >= 2
    assert args.most_replicas > args.replicas
    workers = manifest["RayService"]["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    assert sum(group["maxReplicas"] for group in workers) >= args.most_replicas


def test_ports_variables_and_mounts_belong_together(
    manifest: dict[str, Any], groups: list[dict[str, Any]]
) -> None:
    config = serve_configuration()
    port, (application,) = config["http_options"]["port"], config["applications"]
    assert manifest["ConfigMap"]["data"] == read_environment(DEPLOY / "ray.env")
    (outside,) = [rule for rule in manifest["NetworkPolicy"]["spec"]["ingress"] if "from" not in rule]
    assert [one["port"] for one in outside["ports"]] == [port]
    labels = manifest["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]
    for group in groups:
        one, pod = container(group), group["template"]
        assert labels.items() <= pod["metadata"]["labels"].items()
        assert one["image"] == f"sfumato-ray:{PROJECT['version']}"
        assert {"name": "serve", "containerPort": port} in one["ports"]
        assert one["envFrom"] == [{"configMapRef": {"name": manifest["ConfigMap"]["metadata"]["name"]}}]
        assert [variable["name"] for variable in one["env"]] == [VARIABLE]
        assert all("value" not in variable for variable in one["env"])  # a secret's name, never a secret
        mounts = {mount["name"]: mount for mount in one["volumeMounts"]}
        assert mounts["export"]["mountPath"] == application["args"]["export"]
        assert mounts["export"]["readOnly"]
        assert set(mounts) == {volume["name"] for volume in pod["spec"]["volumes"]}
        assert {"livenessProbe", "readinessProbe"} <= set(one)
        assert {"requests", "limits"} <= set(one["resources"])
    worker = container(groups[1])
    assert worker["readinessProbe"]["httpGet"]["port"] == port


def test_no_pod_runs_as_root(groups: list[dict[str, Any]], stages: dict[str, list[Instruction]]) -> None:
    user = dict(stages["ray"])["USER"]
    for group in groups:
        pod, one = group["template"]["spec"], container(group)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert str(pod["securityContext"]["runAsUser"]) == user
        assert one["securityContext"]["allowPrivilegeEscalation"] is False


def test_rays_version_is_that_of_the_lock(manifest: dict[str, Any]) -> None:
    lock = (ROOT / "requirements" / "ray.txt").read_text(encoding="utf-8")
    assert f"\nray=={manifest['RayService']['spec']['rayClusterConfig']['rayVersion']} " in lock


@pytest.mark.skipif(not RAY, reason="SFUMATO_RAY names no python")
def test_ray_knows_the_options_and_reads_the_variables(
    groups: list[dict[str, Any]], stages: dict[str, list[Instruction]]
) -> None:
    program = Path(RAY).absolute().parent / "ray"
    shown = subprocess.run([program, "start", "--help"], capture_output=True, text=True, check=True).stdout
    given = {f"--{name}" for group in groups for name in group["rayStartParams"]}
    given |= {word for word in json.loads(dict(stages["ray"])["CMD"]) if word.startswith("--")}
    assert given <= set(re.findall(r"--[a-z-]+", shown))
    found = subprocess.run(
        [RAY, "-c", "import ray; print(ray.__path__[0])"], capture_output=True, text=True, check=True
    )
    folder = Path(found.stdout.strip())
    read = (folder / "serve" / "_private" / "constants.py").read_text() + (
        folder / "_common" / "usage" / "usage_constants.py"
    ).read_text()
    assert [name for name in read_environment(DEPLOY / "ray.env") if f'"{name}"' not in read] == []
