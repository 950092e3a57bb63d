"""A sample of items scored again by another bundle: the stages and a real session in this process, without Ray."""

import hashlib
import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fsf_core import runs, storage
from fsf_core.analysis.drift import compare_runs
from fsf_core.cli.app import main
from fsf_core.errors import ConfigError
from fsf_core.masks import decode_png
from fsf_core.model.bundle import Bundle
from fsf_core.model.bundle_files import read_model, read_parity, save_bundle
from fsf_core.options import SCHEMES
from fsf_core.rescoring import MAX_FRAMES, _score, load_bundle_of, rescore
from tests.support import clips
from tests.support.made_runs import make_run

ITEMS = 60
ACCESS = storage.Access(schemes=SCHEMES)
NAMES = ("background", "sunburn", "ulcer", "wind_scarring")


@pytest.fixture(scope="module")
def other_bundle(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with the last bias of the network moved: class 1 wins more often."""
    model = onnx.load_from_string(read_model(tiny_bundle))
    bias = next(one for one in model.graph.initializer if list(one.dims) == [4])
    moved = numpy_helper.to_array(bias) + np.array([0, 0.5, 0, 0], np.float32)
    bias.CopyFrom(numpy_helper.from_array(moved, bias.name))
    return save_bundle(
        str(tmp_path_factory.mktemp("bundles") / "other"),
        classes=tiny_bundle.classes,
        palette=tiny_bundle.palette,
        profile=tiny_bundle.profile,
        signature=tiny_bundle.signature,
        origin=tiny_bundle.origin,
        models={"plain": model.SerializeToString()},
        parity=str(read_parity(tiny_bundle)).replace("'", '"'),
    )


def draw(folder: Path, seed: int, *, light: float = 1.0, spots: float = 1.0) -> list[str]:
    """Draw pictures: noise of a light, with spots."""
    folder.mkdir()
    generator = np.random.default_rng(seed)
    found = []
    for at in range(ITEMS):
        image = generator.normal(light * generator.normal(120, 10), 25, (48, 64, 3))
        side = int(spots * generator.integers(6, 18))
        top, left = generator.integers(0, 48 - side), generator.integers(0, 64 - side)
        image[top : top + side, left : left + side] += 90
        path = folder / f"{seed} é {at}.png"
        cv2.imencode(".png", np.clip(image, 0, 255).astype(np.uint8))[1].tofile(path)
        found.append(str(path))
    return found


def score(uri: Path, paths: list[str], bundle: Bundle) -> str:
    """Write a run as the job would: masks and figures by the stages."""
    empty = make_run(str(uri.with_name(f"{uri.name}-empty")), np.empty((0, 4)), item_ids=[], class_names=NAMES)
    run = runs.open_run(empty)
    rows = [{"item_id": path, "uri": path, "pts_s": None} for path in paths]
    scored = _score(rows, run, run, bundle, ACCESS)
    maps = [decode_png(scored[path]["masks"][0]) for path in paths]
    frames = [scored[path]["figures"][0] for path in paths]
    names = ("brightness", "contrast", "sharpness", "confidence", "uncertain_share")
    return make_run(
        str(uri),
        np.array([[(each == k).mean() for k in range(4)] for each in maps]),
        figures={name: [frame[name] for frame in frames] for name in names},
        item_ids=paths,
        uris=paths,
        digests=[hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths],
        class_names=NAMES,
        class_maps=maps,
        bundle=bundle.sha256,
    )


@pytest.fixture
def scored(tmp_path: Path, tiny_bundle: Bundle) -> str:
    return score(tmp_path / "a", draw(tmp_path / "pictures-a", 1), tiny_bundle)


def diff(a: str, b: str, bundle: Bundle, *, items_of="a"):
    run_a, run_b = runs.open_run(a), runs.open_run(b)
    pair = (run_a, run_b) if items_of == "a" else (run_b, run_a)
    found = rescore(*pair, bundle, items_of=items_of, sample=ITEMS, access=ACCESS)
    return compare_runs(run_a, run_b, rescored=[found])


def test_a_changed_model_is_distinguished_from_changed_data(tmp_path, scored, tiny_bundle, other_bundle):
    new = draw(tmp_path / "pictures-b", 2)
    dark = draw(tmp_path / "pictures-c", 3, light=0.6)
    by_other = score(tmp_path / "b", new, other_bundle)

    found = diff(scored, by_other, other_bundle)
    assert (found["verdict"], found["model"]["by"], found["rescored"][0]["items"]) == ("model", "re-scoring", ITEMS)
    assert found["model"]["pixels_changed_share"] > 0.01
    assert diff(scored, by_other, tiny_bundle, items_of="b")["verdict"] == "model"
    assert diff(scored, score(tmp_path / "c", dark, other_bundle), other_bundle)["verdict"] == "both"
    assert compare_runs(*map(runs.open_run, (scored, score(tmp_path / "d", dark, tiny_bundle))))["verdict"] == "data"
    assert compare_runs(*map(runs.open_run, (scored, score(tmp_path / "e", new, tiny_bundle))))["verdict"] == "same"


def test_a_bundle_of_the_same_weights_makes_the_same_masks(tmp_path, scored, tiny_bundle):
    copied = save_bundle(
        str(tmp_path / "copy"),
        classes=tiny_bundle.classes,
        palette=((1, 2, 3), *tiny_bundle.palette[1:]),
        profile=tiny_bundle.profile,
        signature=tiny_bundle.signature,
        origin=tiny_bundle.origin,
        models={"plain": read_model(tiny_bundle)},
        parity=str(read_parity(tiny_bundle)).replace("'", '"'),
    )
    assert copied.sha256 != tiny_bundle.sha256
    other = score(tmp_path / "b", draw(tmp_path / "pictures-b", 2), copied)

    found = diff(scored, other, copied)

    assert (found["verdict"], found["model"]["changed"], found["model"]["pixels_changed_share"]) == ("same", False, 0)


def test_items_that_are_gone_or_replaced_are_counted_and_left_out(tmp_path, scored, other_bundle):
    paths = runs.open_run(scored).masks(columns=["uri"]).column("uri").to_pylist()
    Path(paths[0]).unlink()
    Path(paths[1]).write_bytes(b"no picture")
    shutil.copy(paths[3], paths[2])

    run = runs.open_run(scored)
    found = rescore(run, run, other_bundle, items_of="a", sample=ITEMS, access=ACCESS)

    assert (found.unreadable, found.replaced, found.items) == (1, 2, ITEMS - 3)
    assert found.changes.frames == ITEMS - 3


def test_the_first_frames_of_a_video_are_scored(tmp_path, tiny_bundle):
    data = clips.clip(frames=40)
    (tmp_path / "belt.mp4").write_bytes(data)
    maps = np.zeros((40, 64, 96), np.uint8)
    uri = make_run(
        str(tmp_path / "run"), np.tile([1.0, 0, 0, 0], (40, 1)), frames=[40], item_ids=["belt"], class_names=NAMES,
        class_maps=maps, uris=[str(tmp_path / "belt.mp4")], digests=[hashlib.sha256(data).hexdigest()],
    )  # fmt: skip
    run = runs.open_run(uri)

    found = rescore(run, run, tiny_bundle, items_of="a", sample=5, access=ACCESS)

    assert (found.items, found.changes.frames, found.changes.pixels) == (1, MAX_FRAMES, MAX_FRAMES * 64 * 96)


def test_another_bundle_than_the_runs_is_refused(scored, other_bundle):
    with pytest.raises(ConfigError, match="give that bundle"):
        load_bundle_of(runs.open_run(scored), other_bundle.uri, option="--bundle-b")


def test_the_command_prints_its_document_last_and_writes_it(tmp_path, scored, other_bundle, capsys):
    import json

    other = score(tmp_path / "b", draw(tmp_path / "pictures-b", 2), other_bundle)
    out = str(tmp_path / "drift")

    code = main(["diff", scored, other, "--bundle-b", other_bundle.uri, "--out", out])

    printed = capsys.readouterr().out.splitlines()
    assert (code, json.loads(printed[-1])) == (0, json.loads(storage.read_bytes(f"{out}/drift.json")))
    assert printed[0].startswith("model: the model changed")
    assert b"The model changed" in storage.read_bytes(f"{out}/drift.html")
