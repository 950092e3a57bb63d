"""The scoring job in this process, on a local Ray cluster."""

import datetime as dt
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import datasets
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from PIL import Image
from ray.data._internal.execution.interfaces import PhysicalOperator
from ray.data._internal.execution.streaming_executor import StreamingExecutor

from fsf_core import masks, runs
from fsf_core.config import ExportConfig, ScoreConfig
from fsf_core.errors import BundleError, GateError, ManifestError, OutputError, ProviderError
from fsf_core.export.job import export
from fsf_core.media import images
from fsf_core.model.bundle import Bundle
from fsf_core.model.bundle_files import read_model
from fsf_core.model.cuda_driver import cuda_devices
from fsf_core.model.session import Session
from fsf_core.score import measured, partition, pipeline, plan
from fsf_core.score.job import score
from tests.support import assets, clips, ledger
from tests.support.separate_stages import with_separate_stages

pytestmark = pytest.mark.usefixtures("ray_here")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good images, every kind of broken file, and a video."""
    home = tmp_path_factory.mktemp("media")
    assets.write_good(home / "good")
    assets.write_broken(home / "broken")
    (home / "clip.mp4").write_bytes(clips.clip(frames=30))
    return home


@pytest.fixture(scope="module")
def finished(folder: Path, tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("runs") / "mixed"
    summary = score(
        ScoreConfig(
            bundle=tiny_bundle.uri, manifest=str(folder), out=str(out), provider="cpu", segment_frames=8, regions=True
        )
    )
    return out, summary


def _seed_path(image_HWC: np.ndarray, bundle: Bundle) -> np.ndarray:
    """Return the class map of an image as the seed computes it."""
    session = Session(read_model(bundle), provider="cpu")
    small = cv2.cvtColor(cv2.resize(image_HWC, (224, 224), interpolation=cv2.INTER_LINEAR), cv2.COLOR_BGR2RGB)
    logits = session.run((small.astype(np.float32) / np.float32(255)).transpose(2, 0, 1)[None])[0]
    powers = np.exp(logits - logits.max(0))
    probabilities = powers / powers.sum(0)
    height_px, width_px = image_HWC.shape[:2]
    return np.stack([cv2.resize(plane, (width_px, height_px)) for plane in probabilities]).argmax(0)


def test_separate_stages_give_the_same_tables_as_one_actor(
    finished: tuple[Path, dict], folder: Path, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "plan_pipeline", with_separate_stages(plan.plan_pipeline))
    config = ScoreConfig(
        bundle=tiny_bundle.uri, manifest=str(folder), out=str(tmp_path / "separate"), provider="cpu", segment_frames=8,
        regions=True,
    )  # fmt: skip
    score(config)

    assert_same_tables(str(finished[0]), config.out)


def assert_same_tables(run: str, other: str) -> None:
    """Compare the rows of two runs of the same list, but for the ids of the runs."""
    for name in ("masks", "class_stats", "failures", "regions"):
        one, two = (
            runs.read_table(out, name).drop_columns(["run_id"] if name == "masks" else []) for out in (run, other)
        )
        names = ("item_id", "frame_index", "class_id", "region")
        keys = [(key, "ascending") for key in names if key in one.column_names]
        assert one.sort_by(keys).equals(two.sort_by(keys)), name


def test_a_list_that_takes_several_executions_has_the_same_tables(
    finished: tuple[Path, dict], folder: Path, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(tables: Iterable[pa.Table], **_: int) -> Iterator[Iterator[pa.Table]]:
        rows = (table.slice(start, 5) for table in tables for start in range(0, table.num_rows, 5))
        return partition.executions(rows, max_items=20)

    executed: list[int] = []
    once = pipeline._execute_once
    monkeypatch.setattr(pipeline, "_execute_once", lambda *given: executed.append(1) or once(*given))
    monkeypatch.setattr(pipeline, "executions", short)
    config = ScoreConfig(
        bundle=tiny_bundle.uri, manifest=str(folder), out=str(tmp_path / "several"), provider="cpu", segment_frames=8,
        regions=True,
    )  # fmt: skip

    summary = score(config)

    assert len(executed) > 2
    assert summary["items"] == finished[1]["items"]
    assert_same_tables(str(finished[0]), config.out)


@pytest.mark.parametrize("provider", ["cuda", "cpu"])
def test_the_plan_with_separate_stages_has_one_operator_per_stage(
    provider: str, tiny_bundle: Bundle, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray Data fuses operators that ask for the same resources."""
    operators: dict[str, Any] = {}

    def record(executor: StreamingExecutor, dag: PhysicalOperator, *_: Any, **__: Any) -> None:
        operators.update({operator.name: operator for operator in dag.post_order_iter()})
        raise GateError("planned, and not executed: this machine need not have a GPU")

    cpu_plan = with_separate_stages(plan.plan_pipeline)
    monkeypatch.setattr(
        plan,
        "plan_pipeline",
        lambda *args, **more: replace(cpu_plan(*args, **more), provider=provider, gpus_per_actor=0.5),
    )
    monkeypatch.setattr(StreamingExecutor, "execute", record)
    with pytest.raises(GateError, match="planned"):
        score(ScoreConfig(bundle=tiny_bundle.uri, manifest=str(folder), out=str(tmp_path / "run"), provider="cpu"))

    assert [*operators] == [
        "Input",
        "ReadManifest->MapBatches(decode)",
        "MapBatches(Infer)",
        "MapBatches(mask)",
        "Write",
    ]
    infer = operators["MapBatches(Infer)"]
    assert infer._ray_remote_args.get("num_gpus", 0) == (0.5 if provider == "cuda" else 0)
    assert infer._min_rows_per_bundle is None, "blocks are not collected"
    limits = operators["Write"].data_context.execution_options.resource_limits
    assert pipeline.MIN_STAGE_CPUS < limits.cpu <= ray.cluster_resources()["CPU"]


def test_with_separate_stages_two_calls_of_one_model_overlap(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(8):
        (tmp_path / f"{number}.mp4").write_bytes(clips.clip(frames=8))
    notes = tmp_path / "notes.txt"

    class Slow(measured.Infer):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            run_into = self._session.run_into

            def slowly(batch_NCHW: np.ndarray, logits_NKHW: np.ndarray) -> None:
                began = time.monotonic()
                time.sleep(0.5)
                run_into(batch_NCHW, logits_NKHW)
                with notes.open("a") as file:
                    file.write(f"{began} {time.monotonic()}\n")

            self._session.run_into = slowly

    monkeypatch.setattr(plan, "plan_pipeline", with_separate_stages(plan.plan_pipeline))
    monkeypatch.setattr(pipeline, "measured", SimpleNamespace(**vars(measured) | {"Infer": Slow}))
    score(
        ScoreConfig(bundle=tiny_bundle.uri, manifest=str(tmp_path), out=str(tmp_path / "run"), provider="cpu", actors=1)
    )

    calls = [[float(word) for word in line.split()] for line in notes.read_text().splitlines()]
    at_once = [sum(began <= moment < ended for began, ended in calls) for moment, _ in calls]
    assert len(calls) >= 8
    assert max(at_once) == pipeline.CONCURRENT_CALLS == 2


def test_units_of_a_model_of_many_classes_are_shorter_because_its_logits_are_larger(tmp_path: Path) -> None:
    classes = tuple(f"class_{number}" for number in range(100))  # 20 MB of logits per frame, at most 256 MiB per unit
    network = {"net": "tests.support.tiny_net:build", "classes": classes, "exporter": "torchscript"}
    network |= {"profile": "fastsegformer"}
    bundle = export(ExportConfig(**network, out=str(tmp_path / "bundle"))).bundle
    (tmp_path / "clip.mp4").write_bytes(clips.clip(frames=30))
    out = str(tmp_path / "run")
    summary = score(ScoreConfig(bundle=bundle.uri, manifest=str(tmp_path / "clip.mp4"), out=out, provider="cpu"))

    assert summary["frames"] == 30
    units = [frames for receipt in runs.receipts(out) for frames in receipt.units.column("frames").to_pylist()]
    assert sorted(units) == [4, 13, 13]


def test_every_item_ends_as_frames_or_as_a_failure(finished: tuple[Path, dict], folder: Path) -> None:
    out, summary = finished
    listed = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() or path.is_symlink()}
    scored = set(runs.read_table(str(out), "masks").column("item_id").to_pylist())
    failed = set(runs.read_table(str(out), "failures").column("item_id").to_pylist())

    assert summary["items"]["total"] == len(scored | failed)
    assert scored | failed <= listed
    assert not {item for item in scored | failed if item.startswith("good/")} - scored
    assert not {item for item in failed if item.startswith("good/")}
    assert len({item for item in failed if item.startswith("broken/")}) >= 10


def test_every_frame_has_its_figures_and_regions_that_add_up_to_its_classes(finished: tuple[Path, dict]) -> None:
    frames, stats, regions = (runs.read_table(str(finished[0]), name) for name in ("masks", "class_stats", "regions"))
    ranges = {"confidence": 1, "uncertain_share": 1, "brightness": 255, "contrast": 127.5, "sharpness": 1020**2}
    for name, highest in ranges.items():
        values = frames.column(name).to_numpy()
        assert values.min() >= 0, name
        assert values.max() <= highest, name
        assert len(np.unique(values)) > 30, name  # of the video's frames too
    keys = ["item_id", "frame_index", "class_id"]
    summed = regions.group_by(keys).aggregate([("pixels", "sum"), ("region", "count")])
    found = {
        (*row[:3],): row[3:]
        for row in zip(*(summed[name].to_pylist() for name in [*keys, "pixels_sum", "region_count"]), strict=True)
    }
    for row in stats.to_pylist():
        expected = (row["pixels"], row["components"]) if row["class_id"] and row["pixels"] else None
        assert found.pop((row["item_id"], row["frame_index"], row["class_id"]), None) == expected
    assert found == {}


def test_failures_have_stage_type_and_reason(finished: tuple[Path, dict]) -> None:
    rows = runs.read_table(str(finished[0]), "failures").to_pylist()

    assert {row["stage"] for row in rows} == {"decode"}
    assert {row["error_type"] for row in rows} <= {"DecodeError", "LimitError", "FetchError", "BrokenVideoError"}
    assert all(len(row["error_message"]) > 20 for row in rows)


def test_masks_equal_those_of_the_authors_tools(finished: tuple[Path, dict], folder: Path, tiny_bundle: Bundle) -> None:
    rows = runs.read_table(str(finished[0]), "masks").to_pylist()
    differing = total = 0
    for row in rows:
        if row["pts_s"] is not None:
            continue
        image_HWC = images.decode_bgr(Path(row["uri"]).read_bytes(), honour_exif=True)
        found = masks.decode_png(row["mask"]["bytes"])
        assert found.shape == image_HWC.shape[:2]
        differing += int((found != _seed_path(image_HWC, tiny_bundle)).sum())
        total += found.size

    assert total > 100_000
    assert differing / total < 1e-4


def test_notes_of_pictures_are_in_the_table(finished: tuple[Path, dict]) -> None:
    rows = [row for row in _rows(finished[0], "masks") if row["pts_s"] is None]
    noted = {row["item_id"]: images.decode_image(Path(row["uri"]).read_bytes(), honour_exif=True).notes for row in rows}

    assert {row["item_id"]: row["notes"] for row in rows} == noted
    assert noted["good/gif/animated.gif"].startswith("first of ")
    assert noted["good/jpeg/420.jpg"] is None


def test_video_frames_are_numbered_and_timed_as_in_the_file(finished: tuple[Path, dict], folder: Path) -> None:
    rows = runs.read_table(str(finished[0]), "masks", item_id="clip.mp4").sort_by("frame_index")

    assert rows.column("frame_index").to_pylist() == list(range(30))
    assert np.all(np.diff(rows.column("pts_s").to_numpy()) > 0)


def test_statistics_agree_with_the_masks(finished: tuple[Path, dict]) -> None:
    out = finished[0]
    found = {(r["item_id"], r["frame_index"]): masks.decode_png(r["mask"]["bytes"]) for r in _rows(out, "masks")}
    for row in _rows(out, "class_stats"):
        class_map = found[row["item_id"], row["frame_index"]]
        assert row["pixels"] == int((class_map == row["class_id"]).sum())
        assert row["ratio"] == row["pixels"] / class_map.size


def test_tables_open_in_duckdb_without_this_code(finished: tuple[Path, dict]) -> None:
    out, summary = finished
    frames = duckdb.sql(f"select count(*) from '{out}/masks/*.parquet'").fetchall()
    pixels = duckdb.sql(
        f"select class_name, sum(pixels)::bigint from '{out}/class_stats/*.parquet' group by 1"
    ).fetchall()

    assert frames == [(summary["frames"],)]
    assert dict(pixels) == {entry["name"]: entry["pixels"] for entry in summary["classes"]}


def test_datasets_polars_and_pandas_open_the_masks_without_this_code(
    finished: tuple[Path, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """datasets takes the column for images, as long as it may be null: it was bytes where it was `not null`."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    files = f"{finished[0]}/masks/*.parquet"
    rows = {(row["item_id"], row["frame_index"]): row for row in _rows(finished[0], "masks")}
    dataset = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path))
    in_polars = pl.read_parquet(files).select("item_id", "frame_index", "mask", "notes").to_dicts()
    in_pandas = pd.read_parquet(finished[0] / "masks")[["item_id", "frame_index", "mask", "notes"]]

    assert isinstance(dataset.features["mask"], datasets.Image)
    assert len(dataset) == len(in_polars) == len(in_pandas) == len(rows)
    for row in dataset:
        png = rows[row["item_id"], row["frame_index"]]["mask"]["bytes"]
        assert np.array_equal(np.asarray(row["mask"]), masks.decode_png(png)), row["item_id"]
    for found in (*in_polars, *in_pandas.to_dict("records")):
        row = rows[found["item_id"], found["frame_index"]]
        notes = None if pd.isna(found["notes"]) else found["notes"]
        assert (found["mask"]["bytes"], notes) == (row["mask"]["bytes"], row["notes"])


def test_a_finished_run_passes_verification_and_has_its_mark(finished: tuple[Path, dict]) -> None:
    out, summary = finished

    assert runs.verify(str(out)) == []
    assert (out / "_SUCCESS").exists()
    assert json.loads((out / "summary.json").read_text()) == summary


def test_the_same_command_again_retries_only_the_failures(
    finished: tuple[Path, dict], folder: Path, tiny_bundle: Bundle
) -> None:
    out, first = finished
    receipts = {r.part for r in runs.receipts(str(out)) if not r.failed_units}
    again = score(
        ScoreConfig(
            bundle=tiny_bundle.uri, manifest=str(folder), out=str(out), provider="cpu", segment_frames=8, regions=True
        )
    )

    assert receipts <= {r.part for r in runs.receipts(str(out))}
    assert again["resumed_items"] == first["items"]["scored"]
    assert again["items"] == first["items"]
    assert set(runs.read_table(str(out), "failures").column("attempts").to_pylist()) == {2}


def test_pass_through_columns_reach_the_masks_with_their_types(tiny_bundle: Bundle, tmp_path: Path) -> None:
    assets.write_good(tmp_path / "images")
    names = sorted(path.relative_to(tmp_path).as_posix() for path in (tmp_path / "images").rglob("*.jpg"))[:3]
    columns = {"id": [f"item {n}" for n in range(3)], "uri": names, "line": [0, 1, 2], "tags": [["a", "b"]] * 3}
    pq.write_table(pa.table(columns), tmp_path / "items.parquet")
    score(ScoreConfig(bundle=tiny_bundle.uri, manifest=str(tmp_path / "items.parquet"), out=str(tmp_path / "run")))
    rows = sorted(_rows(tmp_path / "run", "masks"), key=lambda row: row["item_id"])

    assert [(row["item_id"], row["line"], row["tags"]) for row in rows] == [
        (f"item {n}", n, ["a", "b"]) for n in range(len(names))
    ]


def _photo_labels(folder: Path) -> dict[str, np.ndarray]:
    """Return the labels of the photographs as class ids, by the names of the photographs; read by NumPy and Pillow."""
    found = {}
    for path in sorted(folder.glob("*.label.png")):
        stored = Image.open(path)
        if stored.mode == "P":
            found[path.name.removesuffix(".label.png")] = np.asarray(stored)
        else:
            colours_HWC = np.asarray(stored.convert("RGB"))
            label_HW = np.full(colours_HWC.shape[:2], 255, np.uint8)
            for class_id, colour in enumerate(masks.voc_palette(4)):
                label_HW[(colours_HWC == colour).all(-1)] = class_id
            found[path.name.removesuffix(".label.png")] = label_HW
    return found


@pytest.mark.photos
def test_the_confusion_of_labelled_photographs_equals_numpy_to_the_pixel(tiny_bundle: Bundle, tmp_path: Path) -> None:
    photos = Path(os.environ["FSF_PHOTOS"]) / "labelled"
    labels = _photo_labels(photos)
    rows = [f"{name},{photos}/{name}.jpg,{photos}/{name}.label.png" for name in labels]
    (tmp_path / "list.csv").write_text("\n".join(["id,uri,label_uri", *rows, ""]))
    config = ScoreConfig(
        bundle=tiny_bundle.uri, manifest=str(tmp_path / "list.csv"), out=str(tmp_path / "run"), provider="cpu"
    )
    assert score(config)["items"] == {"total": 3, "scored": 3, "failed": 0, "not_in_manifest": 0}

    run = runs.open_run(config.out)
    for name, label_HW in labels.items():
        pairs = label_HW[label_HW < 4].astype(int) * 4 + run.mask(name)[label_HW < 4]
        counted = np.zeros(16, np.int64)
        for row in run.confusion(item_id=name).to_pylist():
            counted[row["label_class_id"] * 4 + row["predicted_class_id"]] = row["pixels"]
        assert counted.tolist() == np.bincount(pairs, minlength=16).tolist()


def test_a_tracker_that_restarts_forgets_no_frame_that_the_cost_is_divided_by(
    tiny_bundle: Bundle, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counted from zero, so what the machines cost was divided by the frames behind its restart alone."""
    work = pipeline.execute

    def interrupted(items: pa.Table, spec: Any, tracker: Any) -> None:
        work(items, spec, tracker)
        ray.kill(tracker, no_restart=False)

    monkeypatch.setattr(pipeline, "execute", interrupted)
    manifest = str(folder / "clip.mp4")
    summary = score(ScoreConfig(bundle=tiny_bundle.uri, manifest=manifest, out=str(tmp_path / "run"), price_hour=3600))

    assert summary["work"]["frames"] == summary["frames"] == 30
    assert summary["work"]["cost"]["per_million_frames"] == pytest.approx(
        1e6 * summary["work"]["job_seconds"] / summary["frames"], abs=1
    )


def test_masks_at_the_models_size_have_its_output_grid(tiny_bundle: Bundle, tmp_path: Path) -> None:
    assets.write_good(tmp_path / "images")
    score(
        ScoreConfig(
            bundle=tiny_bundle.uri, manifest=str(tmp_path / "images"), out=str(tmp_path / "run"), mask_size="model"
        )
    )
    shapes = {masks.decode_png(row["mask"]["bytes"]).shape for row in _rows(tmp_path / "run", "masks")}

    assert shapes == {(224, 224)}


def test_overlays_are_jpegs_of_the_images_size(tiny_bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    manifest = str(folder / "clip.mp4")
    score(ScoreConfig(bundle=tiny_bundle.uri, manifest=manifest, out=str(tmp_path / "run"), overlays=True))
    for row in _rows(tmp_path / "run", "masks"):
        drawn = cv2.imread(str(tmp_path / "run" / row["overlay"]))
        assert drawn.shape[:2] == (row["height_px"], row["width_px"])


def test_pages_of_a_tiff_are_scored_as_they_are_alone(tiny_bundle: Bundle, tmp_path: Path) -> None:
    pictures = [assets.picture(height, width) for height, width in ((60, 90), (40, 40), (128, 70), (90, 60), (30, 50))]
    pages = [Image.fromarray(picture[..., ::-1]) for picture in pictures]
    (tmp_path / "alone").mkdir()
    for number, page in enumerate(pages):
        page.copy().save(tmp_path / "alone" / f"{number}.png")  # Pillow keeps the options of a file in its image
    (tmp_path / "scans").mkdir()
    pages[0].save(tmp_path / "scans" / "a.tif", save_all=True, append_images=pages[1:])
    options = {"bundle": tiny_bundle.uri, "segment_frames": 2, "pages": "all", "overlays": True, "regions": True}
    for name in ("alone", "scans"):
        score(ScoreConfig(manifest=str(tmp_path / name), out=str(tmp_path / f"{name}-run"), **options))
    alone = {row["item_id"]: row for row in _rows(tmp_path / "alone-run", "masks")}
    rows = _rows(tmp_path / "scans-run", "masks")

    assert [(row["frame_index"], row["pts_s"], row["notes"]) for row in rows] == [(n, None, None) for n in range(5)]
    same = ("mask", "height_px", "width_px", "brightness", "contrast", "sharpness", "confidence", "uncertain_share")
    for row in rows:
        expected = alone[f"{row['frame_index']}.png"]
        assert {name: row[name] for name in same} == {name: expected[name] for name in same}
        assert cv2.imread(str(tmp_path / "scans-run" / row["overlay"])).shape[:2] == (row["height_px"], row["width_px"])
    assert runs.verify(str(tmp_path / "scans-run")) == []
    assert runs.paged_items(str(tmp_path / "scans-run")) == {"a.tif"}
    with pytest.raises(OutputError, match="pages: 'all' -> None"):
        score(
            ScoreConfig(
                manifest=str(tmp_path / "scans"), out=str(tmp_path / "scans-run"), **(options | {"pages": "first"})
            )
        )


def test_other_options_in_the_same_folder_are_refused(
    finished: tuple[Path, dict], tiny_bundle: Bundle, folder: Path
) -> None:
    with pytest.raises(OutputError, match="mask_size: 'original' -> 'model'"):
        score(
            ScoreConfig(
                bundle=tiny_bundle.uri, manifest=str(folder), out=str(finished[0]), mask_size="model", segment_frames=8
            )
        )
    changed = {"min_region_px: 1 -> 9": {"regions": True, "min_region_px": 9}, "tables: \\['regions'\\] -> None": {}}
    for message, options in changed.items():
        with pytest.raises(OutputError, match=message):
            score(
                ScoreConfig(
                    bundle=tiny_bundle.uri, manifest=str(folder), out=str(finished[0]), segment_frames=8, **options
                )
            )


def test_an_empty_folder_stops_before_ray_starts(tiny_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="lists no items"):
        score(ScoreConfig(bundle=tiny_bundle.uri, manifest=str(tmp_path / "empty"), out=str(tmp_path / "run")))


def test_a_missing_gpu_is_reported_before_a_checkpoint_is_exported(folder: Path, tmp_path: Path) -> None:
    if cuda_devices()[0]:
        pytest.skip("this machine has a GPU")
    network = {"checkpoint": str(tmp_path / "no.pth"), "net": "fastsegformer-p", "classes": ("background", "orange")}
    with pytest.raises(ProviderError, match="found no GPU"):
        score(ScoreConfig(**network, manifest=str(folder), out=str(tmp_path / "run"), provider="cuda"))

    assert list(tmp_path.iterdir()) == []


def test_a_precision_that_the_bundle_lacks_is_an_error(tiny_bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"asked for int8, .* holds fused, plain; export it with --precisions int8"):
        score(ScoreConfig(bundle=tiny_bundle.uri, manifest=str(folder), out=str(tmp_path / "run"), precision="int8"))
    assert not (tmp_path / "run").exists()


def test_a_dated_folder_and_compaction_change_no_result(tiny_bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    options = {
        "bundle": tiny_bundle.uri,
        "manifest": str(folder / "good"),
        "provider": "cpu",
        "part_units": 2,
        "limit": 12,
        "regions": True,
    }
    small = score(ScoreConfig(out=str(tmp_path / "small"), **options))
    out = tmp_path / "scores" / "date={date:%Y}"

    summary = score(ScoreConfig(out=str(out), compact_mb=64, **options))

    assert summary["out"] == str(out).replace("{date:%Y}", f"{dt.datetime.now(dt.UTC):%Y}")
    assert summary["joined_parts"] > 1
    assert len([*runs.receipts(summary["out"])]) == 1 < len([*runs.receipts(small["out"])])
    assert runs.verify(summary["out"]) == []
    assert ledger.sorted_rows(summary["out"], "regions") == ledger.sorted_rows(small["out"], "regions")
    assert (summary["items"], summary["classes"]) == (small["items"], small["classes"])
    with pytest.raises(OutputError, match="selection"):
        score(ScoreConfig(out=summary["out"], **{**options, "limit": 11}))


def _rows(out: Path, table: str) -> list[dict]:
    return runs.read_table(str(out), table).to_pylist()
