"""The blog post's own steps beside `fsf export` and `fsf score`, on the demo's model: the same masks, table and blend.

What was corrected in the steps is listed in tests/support/blog.py, which uses nothing of this project. Both begin with
the same weights; the post exports them by opset 12 for one picture at a time.
"""

import contextlib
import csv
import io
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.torch import load_file

from fsf_core import open_run
from fsf_core.cli import app
from fsf_core.demo import WEIGHTS, model
from fsf_core.demo.oranges import CLASS_NAMES
from tests.support import blog

TIE = 1e-4
"""Two classes whose probabilities differ by less are decided by rounding."""


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    network = model.build()
    network.load_state_dict({name: weights.float() for name, weights in load_file(WEIGHTS).items()})
    path = tmp_path_factory.mktemp("blog") / "blog.onnx"
    blog.export(network, path)
    return blog.open_session(path)


@pytest.fixture(scope="module")
def run(readme_home):
    return open_run(str(readme_home / "runs" / "first"))


@pytest.fixture(scope="module")
def pictures(readme_home):
    data = readme_home / "demo" / "data"
    with (data / "manifest.csv").open(newline="") as file:
        return {row["id"]: data / row["uri"] for row in csv.DictReader(file) if row["id"].startswith("orange_")}


def differing(found_HWK, class_map_HW) -> tuple[int, int]:
    """Return the pixels that differ though they are no ties, and those that are ties."""
    best_HW2 = np.sort(found_HWK, axis=-1)[..., -2:]
    tied_HW = best_HW2[..., 1] - best_HW2[..., 0] < TIE
    return int((found_HWK.argmax(axis=-1) != class_map_HW)[~tied_HW].sum()), int(tied_HW.sum())


def test_every_picture_has_the_posts_mask(session, run, pictures):
    seen = set()
    for item_id, path in pictures.items():
        found_HWK = blog.probabilities(session, blog.read_image(path))
        wrong, tied = differing(found_HWK, run.mask(item_id))
        assert wrong == 0, f"{item_id}: {wrong} pixels differ"
        assert tied < found_HWK[..., 0].size / 1000
        seen |= {*np.unique(run.mask(item_id)).tolist()}
    assert seen == {0, 1, 2, 3}, "every class is in a mask"


def test_every_frame_of_the_video_has_the_posts_mask(session, run, readme_home):
    frames = [*blog.read_frames(readme_home / "demo" / "data" / "videos" / "conveyor.mp4")]
    assert len(frames) == 12
    for index, frame_HWC in enumerate(frames):
        wrong, _ = differing(blog.probabilities(session, frame_HWC), run.mask("conveyor", frame=index))
        assert wrong == 0, f"frame {index}: {wrong} pixels differ"


def test_the_posts_table_and_blend_are_what_inspect_makes(session, run, pictures, tmp_path):
    item_id = "orange_005"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert app.main(["inspect", run.uri, item_id, "--png", str(tmp_path / "look.png")]) == 0
    image_HWC = blog.read_image(pictures[item_id])
    found_HWK = blog.probabilities(session, image_HWC)
    _, tied = differing(found_HWK, run.mask(item_id))

    assert blog.count_table(run.mask(item_id), CLASS_NAMES) in printed.getvalue()
    theirs = _pixels(blog.count_table(found_HWK.argmax(axis=-1), CLASS_NAMES))
    ours = _pixels(printed.getvalue())
    assert ours.keys() == theirs.keys() == set(CLASS_NAMES)
    assert all(abs(ours[name] - theirs[name]) <= tied for name in CLASS_NAMES)
    assert np.array_equal(cv2.imread(str(tmp_path / "look.png")), blog.blend(image_HWC, run.mask(item_id)))


def _pixels(table: str) -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(r"\| +(\w+) \| +(\d+) \|", table)}


def test_the_posts_part_uses_nothing_of_the_project():
    assert "fsf_core" not in Path(blog.__file__).read_text()
