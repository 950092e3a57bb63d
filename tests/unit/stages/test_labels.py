"""Labels beside items: fetched with them, counted pixel by pixel, and wrong ones are failures, never guesses."""

import hashlib
import re

import numpy as np
import pyarrow as pa
import pytest

from fsf_core import storage
from fsf_core.media import images, video
from fsf_core.stages.decode_row import unit_of_row
from fsf_core.stages.decode_video import decode_video
from fsf_core.stages.isolated_decode import failures_for_block
from fsf_core.stages.video_plan import pack_plan, plan_video
from tests.support import assets, clips
from tests.support.labelled import (
    decoded,
    encode,
    expected_pixels,
    label,
    label_video,
    masked,
    pixels_of,
    rows_of,
    scored,
    write_list,
)

FRAMES = 20
HEIGHT, WIDTH = 64, 96


def write_clip(folder, *, frames=FRAMES, name="belt.mp4"):
    (folder / name).write_bytes(clips.clip(frames=frames))
    return folder / name


def labels_of(numbers):
    return {number: label(HEIGHT, WIDTH, seed=number) for number in numbers}


def failure_of(units):
    """Return the failure of the only unit that has one."""
    (row,) = [row for row in units.to_pylist() if row["error_type"] is not None]
    return row


# --- images ---


def test_the_confusion_of_images_equals_numpy_for_every_form_of_label_and_size(tmp_path):
    """Mixed sizes, a photograph that EXIF turns, palette, grey and painted labels, ignored pixels, no label."""
    forms = ["grey", "palette", "rgb", "rgba", "grey"]
    sizes = [(40, 60), (61, 33), (7, 200), (90, 120), (1, 1)]
    rows, labels = [], {}
    for number, (form, (height, width)) in enumerate(zip(forms, sizes, strict=True)):
        name = f"orchard å/{number}.png"
        (tmp_path / "orchard å").mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(assets.pillow(assets.picture(height, width), "PNG"))
        labels[name] = label(height, width, seed=number)
        (tmp_path / f"{number}.label.png").write_bytes(encode(labels[name], form))
        rows.append((name, name, f"{number}.label.png"))
    turned = assets.pillow(assets.picture(50, 80), "JPEG")
    (tmp_path / "turned.jpg").write_bytes(assets.jpeg_with(turned, assets.jpeg_segment(0xE1, assets.exif(6))))
    labels["turned"] = label(80, 50, seed=9)
    (tmp_path / "turned.png").write_bytes(encode(labels["turned"]))
    (tmp_path / "plain.jpg").write_bytes(turned)
    rows += [("turned", "turned.jpg", str(tmp_path / "turned.png")), ("plain", "plain.jpg", "")]

    run = scored(write_list(tmp_path, rows), tmp_path / "run")

    assert run.failures().num_rows == 0
    for item_id, label_HW in labels.items():
        assert (pixels_of(run, item_id) == expected_pixels(run, item_id, {0: label_HW})).all(), item_id
    assert run.confusion(item_id="plain").num_rows == 0
    facts = {row["item_id"]: row for row in run.masks().to_pylist()}
    assert facts["turned"]["label_ignored_px"] == (labels["turned"] == 255).sum()
    assert facts["turned"]["label_sha256"] == storage.file_sha256((tmp_path / "turned.png").open("rb"))
    assert (facts["plain"]["label_ignored_px"], facts["plain"]["label_sha256"]) == (None, None)
    assert (facts["plain"]["label_uri"], facts["turned"]["label_uri"]) == ("", str(tmp_path / "turned.png"))


def test_rows_are_sorted_and_have_every_pixel_once(tmp_path):
    for name in "ba":
        (tmp_path / f"{name}.png").write_bytes(assets.pillow(assets.picture(30, 40), "PNG"))
        (tmp_path / f"{name}.label.png").write_bytes(encode(label(30, 40, ignored=0)))

    run = scored(write_list(tmp_path, [(n, f"{n}.png", f"{n}.label.png") for n in "ba"]), tmp_path / "run")

    order = [(row["item_id"], row["label_class_id"], row["predicted_class_id"]) for row in run.confusion().to_pylist()]
    assert order == sorted(set(order))
    assert pixels_of(run, "a").sum() == 30 * 40


def test_a_label_that_ignores_every_pixel_leaves_no_row_and_is_still_a_label(tmp_path):
    (tmp_path / "a.png").write_bytes(assets.pillow(assets.picture(30, 40), "PNG"))
    (tmp_path / "l.png").write_bytes(encode(np.full((30, 40), 255, np.uint8)))

    run = scored(write_list(tmp_path, [("a", "a.png", "l.png")]), tmp_path / "run")

    assert run.confusion().num_rows == run.failures().num_rows == 0
    assert run.masks().column("label_ignored_px").to_pylist() == [30 * 40]


def noise(size=500):
    return np.random.default_rng(0).integers(0, 256, size, np.uint8).tobytes()


def painted(colour):
    return assets.pillow(np.full((30, 40, 3), colour, np.uint8), "PNG")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (None, "does not exist"),
        (b"", "an empty file"),
        (noise(), "expected a PNG"),
        (encode(label(30, 40))[:-30], "cut off|damaged|ends|truncated|broken"),
        (encode(label(40, 30)), r"has 30×40 pixels, expected the 40×30 of its mask"),
        (encode(label(1, 1)), r"has 1×1 pixels"),
        (painted((1, 2, 3)), "#010203"),
        (assets.pillow(assets.picture(30, 40), "JPEG"), "a JPEG"),
    ],
    ids=["missing", "empty", "noise", "cut", "turned", "tiny", "colour", "jpeg"],
)
def test_a_bad_label_is_a_failure_of_its_item_and_of_no_other(data, found, tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(assets.pillow(assets.picture(30, 40), "PNG"))
    (tmp_path / "b.label.png").write_bytes(encode(label(30, 40)))
    if data is not None:
        (tmp_path / "a.label.png").write_bytes(data)

    run = scored(write_list(tmp_path, [(n, f"{n}.png", f"{n}.label.png") for n in "ab"]), tmp_path / "run")

    (row,) = run.failures().to_pylist()
    assert (row["item_id"], row["stage"], row["error_type"]) == ("a", "label", "LabelError")
    assert re.search(found, row["error_message"]), row
    assert run.masks().column("item_id").to_pylist() == ["b"]
    assert {*run.confusion().column("item_id").to_pylist()} == {"b"}


def test_a_label_above_the_limit_of_bytes_is_not_read(tmp_path):
    (tmp_path / "a.png").write_bytes(assets.pillow(np.zeros((8, 8, 3), np.uint8), "PNG"))
    (tmp_path / "l.png").write_bytes(encode(label(8, 8)) + noise(5000))

    units = decoded(write_list(tmp_path, [("a", "a.png", "l.png")]), limits=images.ImageLimits(max_bytes=1000))

    assert "the limit is 1000; raise --max-bytes" in failure_of(units)["error_message"]


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:9/l.png", "span://0+24/{file}", "SPAN://0+24/{file}", "cell://0.0/jpg/{file}", "ftp://h/l.png"],
)
def test_labels_may_have_no_address_that_items_may_not(address, tmp_path):
    """Nor does the failure quote what is at an address of this machine."""
    (tmp_path / "a.png").write_bytes(assets.pillow(assets.picture(30, 40), "PNG"))
    secret = tmp_path / "secret"
    secret.write_bytes(b"root:password-number-1\n" * 9)
    manifest = write_list(tmp_path, [("a", "a.png", address.format(file=secret))])

    units = decoded(manifest)
    plain = decoded(write_list(tmp_path, [("a", "a.png", str(secret))], name="plain.csv"))

    row = failure_of(units)
    assert (row["failed_stage"], row["error_type"]) == ("label", "LabelError")
    assert "password" not in row["error_message"] + failure_of(masked(plain))["error_message"]


def test_a_secret_in_the_address_of_a_label_is_in_no_table(tmp_path):
    (tmp_path / "a.png").write_bytes(assets.pillow(assets.picture(30, 40), "PNG"))
    manifest = write_list(tmp_path, [("a", "a.png", "http://me:s3cret@127.0.0.1:9/l.png?X-Amz-Signature=s3cret")])

    units = decoded(manifest)

    assert failure_of(units)
    assert "s3cret" not in str(units.to_pylist())


def test_a_list_without_labels_carries_none(tmp_path):
    (tmp_path / "a.png").write_bytes(assets.pillow(assets.picture(30, 40), "PNG"))
    units = decoded(tmp_path / "a.png")

    assert not {"labels", "label_sha256"} & {*units.column_names}
    assert not {"confusion", "label_sha256", "label_ignored_px"} & {*masked(units).column_names}


def test_failures_of_a_block_that_ended_its_process_fit_the_other_units(tmp_path):
    (tmp_path / "a.png").write_bytes(assets.pillow(assets.picture(30, 40), "PNG"))
    (tmp_path / "l.png").write_bytes(encode(label(30, 40)))
    manifest = write_list(tmp_path, [("a", "a.png", "l.png")])
    units = decoded(manifest)
    rows, settings, _ = rows_of(manifest)

    assert pa.concat_tables([units, failures_for_block(rows, settings, times=3)]).num_rows == 2


# --- videos ---


def write_folder(folder, labels, *, name="frame_{:06d}.png"):
    folder.mkdir(exist_ok=True)
    for number, label_HW in labels.items():
        (folder / name.format(number)).write_bytes(encode(label_HW))
    return folder


@pytest.mark.parametrize("name", ["{}.png", "{:06d}.PNG", "frame_{:06d}.png", "cam2-{:03d}.png", "{:06d}_label.png"])
def test_a_folder_labels_the_frames_in_its_names_and_leaves_the_others_unlabelled(name, tmp_path):
    write_clip(tmp_path)
    labels = labels_of([0, 3, 7, 8, 19])
    write_folder(tmp_path / "labels", labels, name=name)
    (tmp_path / "labels" / "notes.txt").write_text("not a label")
    (tmp_path / "labels" / "._3.png").write_bytes(b"of a Mac")

    run = scored(write_list(tmp_path, [("v", "belt.mp4", "labels")]), tmp_path / "run")

    assert run.failures().num_rows == 0
    assert (pixels_of(run, "v") == expected_pixels(run, "v", labels)).all()
    assert {*run.confusion().column("segment").to_pylist()} == {0, 1, 2}
    rows = run.masks(columns=["frame_index", "label_ignored_px", "label_sha256"]).to_pylist()
    assert [row["frame_index"] for row in rows if row["label_ignored_px"] is not None] == [*labels]
    assert [row["frame_index"] for row in rows if row["label_sha256"] is not None] == [*labels]
    assert len(rows) == FRAMES


@pytest.mark.parametrize(
    ("codec", "pixels", "container", "form", "options"),
    [
        ("ffv1", "gray", "matroska", "gray", {}),
        ("ffv1", "gray16le", "matroska", "gray16le", {}),
        ("png", "gray", "mov", "gray", {}),
        ("rawvideo", "gray", "avi", "gray", {}),
        ("ffv1", "bgr0", "matroska", "rgb24", {}),
        ("huffyuv", "rgb24", "avi", "rgb24", {}),
        ("libx264rgb", "rgb24", "mp4", "rgb24", {"qp": "0", "bf": "2", "g": "8"}),
    ],
)
def test_a_label_video_labels_every_frame_in_step_with_the_video(codec, pixels, container, form, options, tmp_path):
    write_clip(tmp_path)
    labels = labels_of(range(FRAMES))
    coloured = [images.decode_bgr(encode(each, "rgb"), honour_exif=False)[..., ::-1] for each in labels.values()]
    levels = [each.astype(np.uint16 if "16" in form else np.uint8) for each in labels.values()]
    arrays = coloured if form == "rgb24" else levels
    data = label_video(arrays, codec=codec, pixels=pixels, container=container, options=options, form=form)
    (tmp_path / "labels.bin").write_bytes(data)

    run = scored(write_list(tmp_path, [("v", "belt.mp4", "labels.bin")]), tmp_path / "run")

    assert run.failures().to_pylist() == []
    assert (pixels_of(run, "v") == expected_pixels(run, "v", labels)).all()
    assert {*run.masks().column("label_sha256").to_pylist()} == {hashlib.sha256(data).hexdigest()}


@pytest.mark.parametrize("kind", ["folder", "video"])
def test_labels_follow_the_frames_that_are_sampled_and_the_segments_that_are_left(kind, tmp_path):
    write_clip(tmp_path, frames=40)
    labels = labels_of(range(0, 40, 1 if kind == "video" else 2))
    if kind == "video":
        (tmp_path / "labels").write_bytes(label_video([*labels.values()]))
    else:
        write_folder(tmp_path / "labels", labels)
    manifest = write_list(tmp_path, [("v", "belt.mp4", "labels")])
    sampling = {"sampling": video.Sampling(fps=5), "segment_frames": 2, "task_segments": 2}

    run = scored(manifest, tmp_path / "run", **sampling)
    resumed = scored(manifest, tmp_path / "resumed", done_segments=[0, 2], **sampling)

    sampled = run.masks().column("frame_index").to_pylist()
    assert sampled == [0, 5, 10, 15, 20, 25, 30, 35]
    chosen = {frame: labels[frame] for frame in sampled if frame in labels}
    assert (pixels_of(run, "v") == expected_pixels(run, "v", chosen)).all()
    left = [row for row in run.confusion().to_pylist() if row["segment"] in {1, 3}]
    assert resumed.confusion().to_pylist() == left != []


def test_a_bad_label_of_one_frame_fails_its_segment_from_that_frame_on(tmp_path):
    write_clip(tmp_path)
    labels = labels_of(range(FRAMES))
    write_folder(tmp_path / "labels", labels, name="{}.png")
    (tmp_path / "labels" / "10.png").write_bytes(encode(label(10, 10)))
    (tmp_path / "labels" / "17.png").unlink()
    (tmp_path / "labels" / "17.png").mkdir()

    run = scored(write_list(tmp_path, [("v", "belt.mp4", "labels")]), tmp_path / "run")

    failures = run.failures().to_pylist()
    assert [(row["stage"], row["error_type"], row["frame_index"]) for row in failures] == [
        ("label", "LabelError", 10),
        ("label", "LabelError", 17),
    ]
    assert "10×10" in failures[0]["error_message"]
    kept = [*range(10), 16]
    assert sorted(run.masks().column("frame_index").to_pylist()) == kept
    assert (pixels_of(run, "v") == expected_pixels(run, "v", {frame: labels[frame] for frame in kept})).all()


def test_the_frame_of_a_label_video_that_is_damaged_is_a_failure_and_no_frame_without_label(tmp_path):
    write_clip(tmp_path)
    data = label_video([*labels_of(range(FRAMES)).values()], codec="png", container="mov")
    (tmp_path / "labels.mov").write_bytes(clips.overwritten(data, 10, b"\xff"))

    run = scored(write_list(tmp_path, [("v", "belt.mp4", "labels.mov")]), tmp_path / "run")

    (row,) = run.failures().to_pylist()
    assert (row["stage"], row["error_type"], row["frame_index"]) == ("label", "LabelError", 10)
    assert "label of frame 10" in row["error_message"]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["7.png", "000007.png"], "two PNGs for frame 7"),
        (["a_7.png", "b_7.png"], "two PNGs for frame 7"),
        (["20.png"], "a label for frame 20, expected 0 to 19: the video has 20 frames, counted from 0"),
        (["first.png"], "name does not tell its frame"),
        (["1_2_gt.png"], "name does not tell its frame"),
        (["frame-7.5.png"], "name does not tell its frame"),
        (["7.jpg"], "a folder without PNGs"),
        ([], "a folder without PNGs"),
    ],
)
def test_a_folder_whose_names_are_ambiguous_fails_the_video_and_is_not_guessed(names, found, tmp_path):
    write_clip(tmp_path)
    (tmp_path / "labels").mkdir()
    for name in names:
        (tmp_path / "labels" / name).write_bytes(encode(label(HEIGHT, WIDTH)))

    run = scored(write_list(tmp_path, [("v", "belt.mp4", "labels")]), tmp_path / "run")

    first, *others = run.failures().to_pylist()
    assert found in first["error_message"]
    assert {(row["stage"], row["error_type"]) for row in (first, *others)} == {("label", "LabelError")}
    assert (len(others), run.masks().num_rows) == (2, 0)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (lambda: None, "does not exist"),
        (noise, "another kind of file"),
        (lambda: encode(label(HEIGHT, WIDTH)), r"an image \(png\)"),
        (lambda: label_video([*labels_of(range(19)).values()]), "of 19 frames, expected the 20"),
        (lambda: clips.clip(frames=20), "found frames in yuv420p"),
        (lambda: clips.clip(frames=20, codec="mjpeg", pixel_format="yuvj420p", container="avi"), "yuvj420p"),
        (
            lambda: label_video([*labels_of(range(20)).values()], codec="libx265", container="mp4"),
            "levels of grey in hevc",
        ),
    ],
    ids=["missing", "noise", "image", "short", "yuv", "mjpeg", "lossy grey"],
)
def test_a_label_video_that_is_none_or_keeps_no_values_fails_the_video(data, found, tmp_path):
    write_clip(tmp_path)
    if data() is not None:
        (tmp_path / "labels").write_bytes(data())

    units = decoded(write_list(tmp_path, [("v", "belt.mp4", "labels")]))

    rows = units.to_pylist()
    assert [row["segment"] for row in rows] == [0, 1, 2]
    assert {(row["failed_stage"], row["error_type"]) for row in rows} == {("label", "LabelError")}
    assert re.search(found, rows[0]["error_message"]), rows[0]


def test_shares_of_a_long_video_use_the_labels_of_its_plan(tmp_path):
    """Several tasks decode one video; its labels are found once, in the plan that they share."""
    write_clip(tmp_path, frames=40)
    folder = write_folder(tmp_path / "labels", labels_of([1, 11, 39]))
    rows, settings, _ = rows_of(write_list(tmp_path, [("v", "belt.mp4", "labels")]), segment_frames=5, task_segments=2)
    (row,) = rows.to_pylist()
    plan = plan_video(row, settings)
    write_folder(folder, labels_of([0, 12]))  # too late

    labelled = []
    for share in plan.tasks:
        shared = row | {"share": {"first": share.start, "stop": share.stop, "total": plan.segments}}
        with storage.open_binary(row["uri"]) as file:
            for unit in decode_video(file, unit_of_row(row), shared | {"plan": pack_plan(plan)}, settings):
                numbers = [frame.frame_index for frame in unit.frames]
                labelled += [number for number, one in zip(numbers, unit.labels, strict=True) if one]

    assert len(plan.tasks) > 1
    assert labelled == [1, 11, 39]
