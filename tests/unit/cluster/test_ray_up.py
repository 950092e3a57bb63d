"""cluster/ray-up: Ray's own schema, the models of the clouds' interfaces, and what neither of them sees."""

import functools
import gzip
import itertools
import json
import re
import shlex
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from botocore.model import ServiceModel
from botocore.validate import ParamValidator
from click import Command
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts import scripts

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "cluster" / "ray-up"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CLOUDS = ("aws", "gcp")
ALL = (*CLOUDS, "own-machines")
VERSION = PROJECT["version"]


def load(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text())


def commands(config: dict[str, Any]) -> list[list[str]]:
    """Return every shell command of a configuration as words, split where the shell splits."""
    found = []
    for line in itertools.chain(*[value for key, value in config.items() if key.endswith("_commands")]):
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
        lexer.whitespace_split = True
        parts = itertools.groupby(lexer, key=lambda word: set(word) <= set(";&|"))
        found += [list(words) for is_operator, words in parts if not is_operator]
    return found


def ray_commands(config: dict[str, Any]) -> list[list[str]]:
    """Return the arguments of every call of `ray`."""
    return [words[1:] for words in commands(config) if words[0].rpartition("/")[2] == "ray"]


def test_every_file_of_the_folder_is_checked() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == sorted(ALL)


@pytest.mark.parametrize("name", ALL)
def test_ray_accepts_the_file(name: str) -> None:
    validate_config(prepare_config(load(name)))


@pytest.mark.parametrize("name", ALL)
def test_ray_refuses_a_misspelt_key(name: str) -> None:
    config = load(name) | {"idle_timeout_minute": 5}

    with pytest.raises(jsonschema.ValidationError, match="idle_timeout_minute"):
        validate_config(prepare_config(config))


@pytest.mark.parametrize("name", ALL)
def test_ray_start_takes_its_options(name: str) -> None:
    found = ray_commands(load(name))

    assert [words[0] for words in found] == ["stop", "start", "stop", "start"]
    for command, *arguments in found:
        known = getattr(scripts, command)
        assert isinstance(known, Command)
        known.make_context(command, arguments, resilient_parsing=False)


@pytest.mark.parametrize("name", ALL)
def test_the_dashboard_is_reached_through_ssh_only_and_needs_a_token(name: str) -> None:
    config = load(name)
    [head] = [words for words in ray_commands(config) if "--head" in words]
    environment = [*config.get("docker", {}).get("run_options", []), *map(" ".join, commands(config))]

    assert "--dashboard-host=127.0.0.1" in head
    assert "--port=6379" in head
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in head
    assert ("~/.ray/auth_token",) * 2 in config["file_mounts"].items()
    assert sum("RAY_AUTH_MODE=token" in text for text in environment) == (
        1 if "docker" in config else 2
    )  # the head and a worker


@functools.cache
def aws_model() -> ServiceModel:
    """The newest model of EC2 that boto3 calls."""
    folder = max((path for path in files("botocore").joinpath("data", "ec2").iterdir()), key=lambda path: path.name)
    return ServiceModel(json.loads(gzip.decompress(folder.joinpath("service-2.json.gz").read_bytes())), "ec2")


def aws_errors(shape: str, value: dict[str, Any]) -> str:
    model = aws_model()
    known = set(model.shape_for(shape).members)
    unknown = sorted(set(value) - known)
    return ParamValidator().validate(value, model.shape_for(shape)).generate_report() + "".join(unknown)


def test_ec2_knows_every_setting_of_a_machine() -> None:
    config = load("aws")
    for node_type in config["available_node_types"].values():
        request = {**node_type["node_config"], "MinCount": 1, "MaxCount": 1}
        assert aws_errors("RunInstancesRequest", request) == ""
        assert request["InstanceType"] in aws_model().shape_for("InstanceType").enum
    for permission in config["provider"]["security_group"]["IpPermissions"]:
        assert aws_errors("IpPermission", permission) == ""


@pytest.mark.parametrize(
    "change", [{"ImageID": "ami-1"}, {"BlockDeviceMappings": [{"Ebs": {"VolumeSise": 1}}]}, {"EbsOptimized": "yes"}]
)
def test_a_wrong_setting_of_ec2_is_found(change: dict[str, Any]) -> None:
    request = {**load("aws")["available_node_types"]["head"]["node_config"], "MinCount": 1, "MaxCount": 1}

    assert aws_errors("RunInstancesRequest", request | change) != ""


@functools.cache
def gcp_schema() -> dict[str, Any]:
    """The schema of an instance from the discovery document of Compute Engine, which has no required fields."""
    document = json.loads(
        files("googleapiclient").joinpath("discovery_cache", "documents", "compute.v1.json").read_text()
    )
    text = re.sub(r'"\$ref": "(\w+)"', r'"$ref": "#/$defs/\1"', json.dumps(document["schemas"]))
    schemas = json.loads(text)
    for schema in schemas.values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    return {"$defs": schemas, "$ref": "#/$defs/Instance"}


def gcp_errors(value: dict[str, Any]) -> list[str]:
    found = jsonschema.Draft202012Validator(gcp_schema()).iter_errors(json.loads(json.dumps(value)))
    # 64-bit integers are strings in JSON; the client takes both.
    return [error.message for error in found if error.schema.get("format") != "int64"]


def test_compute_engine_knows_every_setting_of_a_machine() -> None:
    for node_type in load("gcp")["available_node_types"].values():
        assert gcp_errors(node_type["node_config"]) == []


@pytest.mark.parametrize(
    "change",
    [{"machinetype": "e2"}, {"scheduling": [{"preemptible": True}]}, {"scheduling": {"provisioningModel": "spot"}}],
)
def test_a_wrong_setting_of_compute_engine_is_found(change: dict[str, Any]) -> None:
    assert gcp_errors(load("gcp")["available_node_types"]["head"]["node_config"] | change) != []


@pytest.mark.parametrize("name", CLOUDS)
def test_pools_scale_from_zero_on_spot_machines_and_the_head_is_not_one(name: str) -> None:
    config = load(name)
    types = config["available_node_types"]
    head = types.pop(config["head_node_type"])
    spot = {"aws": "InstanceMarketOptions", "gcp": "scheduling"}[name]

    assert head["max_workers"] == 0
    assert spot not in head["node_config"]
    assert {name: pool["min_workers"] for name, pool in types.items()} == {"cpu-worker": 0, "gpu-worker": 0}
    assert [pool["resources"].get("GPU", 0) for pool in types.values()] == [0, 1]
    assert all("spot" in json.dumps(pool["node_config"][spot]).lower() for pool in types.values())
    assert config["idle_timeout_minutes"] == 5
    assert max(pool["max_workers"] for pool in types.values()) <= config["max_workers"]


@pytest.mark.parametrize("name", CLOUDS)
def test_gpu_workers_run_the_gpu_image_and_see_the_gpu(name: str) -> None:
    config = load(name)
    gpu = config["available_node_types"]["gpu-worker"]["docker"]

    assert config["docker"]["image"] == f"REGISTRY/fsf:{VERSION}"
    assert gpu == {"worker_image": f"REGISTRY/fsf:{VERSION}-gpu", "worker_run_options": ["--gpus all"]}


def test_own_machines_take_the_versions_of_this_project_by_whole_paths() -> None:
    config = load("own-machines")
    mounts = config["file_mounts"]
    wheel = f"fsf-{VERSION}-py3-none-any.whl"
    installed = [line for line in map(" ".join, commands(config)) if "pip install" in line]
    extras = re.findall(rf"{re.escape(wheel)}\[([\w,]+)\]", " ".join(installed))

    assert mounts["/opt/fsf/constraints.txt"] == "constraints.txt"
    assert mounts[f"/opt/fsf/{wheel}"] == f"dist/{wheel}"
    assert "-c /opt/fsf/constraints.txt" in installed[0]
    assert set(extras[0].split(",")) <= set(PROJECT["optional-dependencies"])
    assert {words[0] for words in commands(config)} == {
        "test", "python3.11", "/opt/fsf/venv/bin/python", "/opt/fsf/venv/bin/ray", "ulimit", "export"
    }  # fmt: skip
    environment = [words[1:] for words in commands(config) if words[0] == "export"]
    assert ["PATH=/opt/fsf/venv/bin:$PATH" in words for words in environment] == [True, True]  # of drivers and workers


def test_the_head_of_own_machines_does_not_guess_its_address() -> None:
    config = load("own-machines")
    [head] = [words for words in ray_commands(config) if "--head" in words]

    assert f"--node-ip-address={config['provider']['head_ip']}" in head  # without a route to the internet: 127.0.0.1


def test_own_machines_start_all_workers() -> None:
    config = prepare_config(load("own-machines"))
    [node_type] = config["available_node_types"].values()
    workers = len(config["provider"]["worker_ips"])

    assert node_type["min_workers"] == node_type["max_workers"] == workers == 2
    assert (
        "RAY_enable_autoscaler_v2=0" in config["head_start_ray_commands"][1]
    )  # the second one forgets the last worker
