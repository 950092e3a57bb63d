"""cluster/image/Dockerfile: its lint, its versions, what enters it, and what a container of it runs."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from fsf_core.cli.app import app
from tests.support import dockerfile
from tests.support.dockerfile import DOCKERFILE, Image, Instruction

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
INSTRUCTIONS = dockerfile.parse(DOCKERFILE.read_text())
CONTEXT = ("LICENSE", "README.md", "constraints.txt", "pyproject.toml", "fsf_core", "jobs")
UNWANTED = (
    ".git/config", ".venv/bin/python", ".ssh/id_ed25519", ".env", ".netrc", "demo/model.pth", "runs/first/a.parquet",
    "bundles/oranges/model.onnx", "weights.pth", "stores.env", "pip.conf", "uv.toml", "tests/golden/model.onnx",
    "cluster/kuberay/site/settings/stores.env", "build/lib/fsf_core/keys.py", "fsf.egg-info/PKG-INFO",
    "fsf_core/.env", "fsf_core/export/.aws/credentials", "fsf_core/storage/server.pem", "fsf_core/storage/tls.key",
    "fsf_core/__pycache__/keys.cpython-311.pyc", "fsf_core/masks/kernels/__pycache__/scores.measure-15.py311.nbi",
    "fsf_core/cli/.mypy_cache/x.json", "jobs/__pycache__/score.cpython-311.pyc", "jobs/id_rsa", "jobs/kubeconfig",
    "jobs/gcp-credentials.json", "jobs/client_secret_1.json", "jobs/.idea/workspace.xml",
)  # fmt: skip
"""What may be in a checkout and must not be in an image: credentials, caches, data."""


@pytest.fixture(scope="module")
def image() -> Image:
    """The configuration that the instructions end with."""
    image = Image()
    for instruction in INSTRUCTIONS:
        if instruction.name not in ("RUN", "COPY"):
            dockerfile.configure(image, instruction, {})
    return image


def instructions(name: str) -> list[Instruction]:
    return [instruction for instruction in INSTRUCTIONS if instruction.name == name]


def test_hadolint_finds_nothing() -> None:
    program = Path(sys.executable).with_name("hadolint")
    if not program.exists():
        pytest.skip("hadolint is not installed (extra dev)")
    done = subprocess.run([program, DOCKERFILE], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")


def test_versions_are_those_of_the_project(image: Image) -> None:
    [python] = re.findall(r"--python-version (\S+)", (ROOT / "Makefile").read_text())

    assert image.base == f"python:{python}-slim-bookworm"
    assert image.labels["org.opencontainers.image.version"] == image.args["VERSION"] == PROJECT["version"]
    assert image.labels["org.opencontainers.image.licenses"] == PROJECT["license"]


def test_every_file_names_the_image_of_this_version() -> None:
    files = [path for path in (ROOT / "cluster").rglob("*") if path.suffix in (".yaml", ".yml", ".md", "")]
    tags = {
        tag for path in files if path.is_file() for tag in re.findall(r"\bfsf:(\d[\w.]*(?:-gpu)?)", path.read_text())
    }

    assert tags == {PROJECT["version"], f"{PROJECT['version']}-gpu"}


@pytest.mark.parametrize(("variant", "extra"), [("cpu", ""), ("gpu", "cuda")])
def test_the_requirements_are_those_of_pyproject_with_the_versions_of_the_constraints(
    variant: str, extra: str, image: Image, tmp_path: Path
) -> None:
    extras = [*image.args["EXTRAS"].split(","), *([extra] if extra else [])]
    expected = {*PROJECT["dependencies"], *(r for name in extras for r in PROJECT["optional-dependencies"][name])}
    written = write_requirements(tmp_path, variant, image.args["EXTRAS"])
    pins = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}

    assert set(written.splitlines()) == expected
    assert {Requirement(line).name.partition("[")[0] for line in written.splitlines()} <= pins
    assert "setuptools" in pins


@pytest.mark.parametrize(("variant", "extras"), [("GPU", "s3"), ("gpu", "s3,cuba")])
def test_a_misspelt_argument_fails_the_build(variant: str, extras: str, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        write_requirements(tmp_path, variant, extras)


def write_requirements(folder: Path, variant: str, extras: str) -> str:
    """Execute the RUN of the dependencies up to the call of pip."""
    [command] = [instruction.value for instruction in instructions("RUN") if "requirements.txt" in instruction.value]
    shutil.copy(ROOT / "pyproject.toml", folder)
    script = command[: command.index("&& python -m pip")].replace("/tmp/", f"{folder}/")  # noqa: S108
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "VARIANT": variant, "EXTRAS": extras}
    subprocess.run(["sh", "-c", script], cwd=folder, env=environment, check=True, capture_output=True)
    return (folder / "requirements.txt").read_text()


def test_every_source_of_a_copy_enters_the_context() -> None:
    files = dockerfile.context_files(ROOT)
    copied = {name for instruction in instructions("COPY") for name, _ in dockerfile.copies(instruction, files)}

    assert copied == files


def test_the_context_is_the_code_and_nothing_else() -> None:
    tracked = set(subprocess.check_output(["git", "ls-files", *CONTEXT], cwd=ROOT, text=True).split("\n")) - {""}
    untracked = subprocess.check_output(
        ["git", "ls-files", "--others", "--exclude-standard", *CONTEXT], cwd=ROOT, text=True
    )

    assert dockerfile.context_files(ROOT) - set(untracked.split("\n")) == tracked


def test_no_credential_cache_or_data_enters_the_context(tmp_path: Path) -> None:
    wanted = {*CONTEXT[:4], "fsf_core/keys.py", "fsf_core/export/nets/LICENSE-FastSegFormer", "jobs/score.py"}
    for name in (*UNWANTED, *wanted):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    shutil.copy(ROOT / ".dockerignore", tmp_path)

    assert dockerfile.context_files(tmp_path) == wanted


def test_a_container_runs_fsf_as_a_user_that_is_not_root(image: Image) -> None:
    packages = [word for instruction in instructions("RUN") for word in shlex.split(instruction.value)]
    program, *arguments = image.cmd
    [user] = [instruction.value for instruction in instructions("RUN") if "useradd" in instruction.value]

    assert image.user == "1000"  # a number: Kubernetes cannot verify that a name is not root
    assert "--uid 1000 " in user
    assert image.entrypoint[0] == "/usr/bin/tini"
    assert {"tini", "bash", "wget", "rsync", "openssh-client"} <= set(packages)  # what KubeRay and `ray up` call
    assert program in PROJECT["scripts"]
    app.parse_args(arguments, exit_on_error=False, print_error=False)
    assert image.workdir == "/opt/fsf"  # where `python -m jobs.score` finds jobs/
    assert image.env["HOME"] == "/home/ray"  # `ray up` reads it from the image


def test_machine_code_of_the_image_does_not_depend_on_the_machine_that_builds_it(image: Image) -> None:
    program = "from numba.core.registry import cpu_target as c; print([*c.target_context.codegen().magic_tuple()][1:])"
    processor = {name: value for name, value in image.env.items() if name.startswith("NUMBA_")}
    found = subprocess.check_output([sys.executable, "-c", program], env=processor, text=True)

    assert found.strip() == "['x86-64-v3', '']"


def test_no_address_and_no_credential_is_in_the_file() -> None:
    text = DOCKERFILE.read_text()

    assert re.findall(r"https?://\S+", text) == []
    assert [i.value for i in instructions("ARG") if re.search(r"(?i)token|secret|passw|index|url", i.value)] == []


def test_instructions_are_read_as_an_engine_reads_them() -> None:
    text = r"""# comment
ARG A=1
FROM b:${A}
ARG A
ENV X="a b" \
  # within
  Y=${A}
RUN --mount=type=secret,id=i,target=/t \
  --mount=type=cache,target=/c echo \
  x
"""
    found = dockerfile.parse(text)
    image = Image()
    for instruction in found[:-1]:
        dockerfile.configure(image, instruction, {"A": "7"})

    assert image.base == "b:7"
    assert image.env | {"X": "a b", "Y": "7"} == image.env
    assert found[-1] == Instruction(
        name="RUN", flags=("--mount=type=secret,id=i,target=/t", "--mount=type=cache,target=/c"), value="echo x"
    )
    assert json.loads(json.dumps(vars(image))) == vars(image)
