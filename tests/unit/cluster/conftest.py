"""The documents of cluster/kuberay, built once."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.kubernetes import FOLDERS, SETTINGS, Document, build, copy_site, expanded


@pytest.fixture(scope="package")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of cluster/kuberay with the files that an operator adds."""
    return copy_site(tmp_path_factory.mktemp("kuberay")).parent


@pytest.fixture(scope="package")
def built(tree: Path) -> dict[str, list[Document]]:
    """The documents of every folder that can be applied, and of every overlay as a job with its own cluster."""
    return {name: build(tree / name) for name in FOLDERS}


@pytest.fixture(params=FOLDERS)
def documents(request: pytest.FixtureRequest, built: dict[str, list[Document]]) -> list[Document]:
    return built[request.param]


@pytest.fixture
def entrypoint_words(tmp_path: Path) -> Callable[[Document], list[str]]:
    """Return the words that reach `fsf` from a RayJob, through the shells of the submitter and of the head."""
    (tmp_path / "fsf").write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    (tmp_path / "fsf").chmod(0o755)
    environment = {**SETTINGS, "PATH": f"{tmp_path}:/usr/bin:/bin", "JOB_NAME": "fsf-night-29387580"}

    def run(job: Document) -> list[str]:
        # KubeRay writes the entrypoint into the submitter's script as it is; `ray job submit` quotes the words again.
        submitter = f'ray() {{ shift 4; printf "%s\\0" "$@"; }}; ray job submit --address a -- {job["entrypoint"]} ;'
        submitter = expanded(submitter, environment)
        sent = subprocess.run(["bash", "-ce", "--", submitter], env=environment, capture_output=True, check=True)
        [dashes, *words] = sent.stdout.decode().rstrip("\0").split("\0")
        assert dashes == "--"
        on_head = ["sh", "-c", subprocess.list2cmdline(words)]
        ran = subprocess.run(on_head, cwd=tmp_path, env=environment, capture_output=True, check=True)
        return ran.stdout.decode().rstrip("\0").split("\0")

    return run
