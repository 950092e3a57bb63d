"""A finished run over pictures and a video, with everything that publishing must get right."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fsf_core.cli.app import main
from tests.support import picture_runs

COLUMNS = pa.schema([("orchard", pa.string()), ("image", pa.int64()), ("tags", pa.list_(pa.string()))])


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("published")


@pytest.fixture(scope="session")
def items(home):
    """Ids with slashes, signs and endings that differ alone; a frame without regions; a failure; a video."""
    rng = np.random.default_rng(3)
    pictures = home / "pictures"

    def drawn(height, width):
        return np.kron(rng.integers(0, 4, (height // 4, width // 4)), np.ones((4, 4))).astype(np.uint8)

    empty = np.zeros((8, 12), np.uint8)
    ring = np.zeros((9, 9), np.uint8)
    ring[1:8, 1:8] = 2
    ring[3, 3] = 0
    ring[5:7, 5:7] = 3
    row = {"orchard": "nord", "image": 7, "tags": ["a", "b"]}
    return [
        picture_runs.image(pictures, "north/1.jpg", drawn(24, 32), **row),
        picture_runs.image(pictures, "north/ünï çø.png", drawn(16, 40), **row),
        picture_runs.failed("gone.jpg"),
        picture_runs.image(pictures, "empty.png", empty, orchard=None, image=None, tags=None),
        picture_runs.video(pictures, "belt/clip.mp4", frames=5),
        picture_runs.image(pictures, "ring.webp", ring, **row),
        picture_runs.image(pictures, "../a:b", drawn(8, 8), name="odd.png", **row),
    ]


@pytest.fixture(scope="session")
def run(home, items):
    return picture_runs.finished(home / "run", items, columns=COLUMNS)


@pytest.fixture
def publish(capsys):
    """Return a function that runs `fsf publish`: exit code, last line of stdout as JSON, and stderr."""

    def call(run_uri, form, out, *words):
        code = main(["publish", str(run_uri), "--to", form, "--out", str(out), *words])
        printed = capsys.readouterr()
        document = json.loads(printed.out.splitlines()[-1]) if printed.out else None
        return code, document, printed.err

    return call


def files(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder, hidden ones included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
