"""The bench of a GPU: what it compares, computes and prints, and that it goes on where it ended."""

import argparse
import importlib
import inspect
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from fsf_core import masks
from fsf_core.score.partition import BlockLimits, block_sizes
from tests.bench import bench_gpu, stages
from tests.bench.gpu import bare, card, contenders, inputs, jobs, parity, table
from tests.bench.gpu.setting import Setting


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs of a rehearsal: a tiny model, and a few small pictures."""
    folder = tmp_path_factory.mktemp("inputs")
    inputs.make_tiny_bundles(folder)
    for name in ("parity", "distinct-512"):
        (folder / name).mkdir()
        for number, size in enumerate(((90, 120), (224, 224), (130, 70))):
            image = np.random.default_rng(number).integers(0, 256, (5, 5, 3), np.uint8)
            cv2.imwrite(str(folder / name / f"{number}.png"), cv2.resize(image, size))
    inputs.mark(folder, quick=True).write_text("{}")
    return folder


@pytest.fixture
def setting(prepared: Path, tmp_path: Path) -> Setting:
    return Setting(inputs=prepared, work=tmp_path, provider="cpu", quick=True, frames=8)


def test_the_fused_form_of_a_gpu_job_has_the_masks_and_tables_of_the_plain_form(setting):
    found = parity.run(setting, "e")
    for precision in ("fp32", "fp16"):
        assert found[precision]["frames"] == 3
        assert found[precision]["columns_off"] == {}
        assert found[precision]["columns"] > 25
    assert found["fp32"]["variant"] == "fused"
    assert found["fp32"]["equal_share"] > 0.9999
    assert found["fp32"]["items_with_equal_maps"] == 3


def test_a_wrong_pixel_a_wrong_number_and_an_empty_column_are_found(setting, tmp_path):
    manifest = tmp_path / "list.csv"
    manifest.write_text("id,uri\n" + "".join(f"{each.name},{each}\n" for each in (setting.inputs / "parity").iterdir()))
    homes = [tmp_path / name for name in ("one", "two")]
    for home in homes:
        spec = stages.specify(setting.bundle("e"), manifest, home, gpu=False, precision="fp32")
        infer = stages.open_model(spec, "cpu")
        for decoded in stages.decoded_tables(spec, manifest):
            probabilities = parity.score(spec, infer, decoded, keep=True)
    [part] = homes[1].glob(".attempt-*/masks/*.parquet")
    rows = pq.ParquetFile(part).read()
    changed = rows.to_pylist()
    class_map = np.array(masks.decode_png(changed[0]["mask"]["bytes"]))
    class_map[:4] = (class_map[:4] + 2) % 4
    changed[0]["mask"]["bytes"] = masks.encode_png(class_map, masks.voc_palette(4))
    changed[1]["confidence"] += 0.1
    changed[2]["sharpness"] = None
    pq.write_table(type(rows).from_pylist(changed, rows.schema), part)

    found = parity.compare(*homes, probabilities, tolerance=1e-3)

    assert found["differing"] == 4 * class_map.shape[1]
    assert found["not_near_ties"] > 0
    assert found["mean_iou"] < 1
    assert found["items_with_equal_maps"] == 2
    assert {*found["columns_off"]} == {"masks.confidence", "masks.sharpness"}


@pytest.mark.parametrize("gpu", [False, True])
def test_every_stage_has_a_cost_per_frame(gpu, setting, tmp_path):
    pictures = setting.inputs / "parity"
    spec = stages.specify(setting.bundle("e"), pictures, tmp_path / "out", gpu=gpu, precision="fp32", batch_frames=4)
    found = stages.costs(spec, stages.open_model(spec, "cpu"), pictures, items=2)
    assert [*found] == ["decode", "infer", "mask", "write"]
    assert all(value > 0 for value in found.values())
    assert len(stages.tables_of(tmp_path / "out")["masks"]) == 2


def test_the_bare_session_is_measured_by_batch_and_kind_of_buffers(setting):
    found = bare.run(setting, "p")
    assert {*found["fp32"]} == {"8 device", "8 host"}
    assert found["best"]["fp32"]["frames_per_s"] == max(found["fp32"].values())


def test_points_without_time_are_named(setting):
    found = bare.run(replace(setting, ends=0.0), "p")
    assert found["left_out"] == ["fp32 8 device", "fp16 8 device", "fp32 8 host", "fp16 8 host"]
    assert found["best"] == {"fp32": {}, "fp16": {}}


def test_a_bare_session_measures_no_more_points_when_its_time_is_over(setting, monkeypatch):
    left_s = iter((60.0, 30.0, bare.FREE_S - 1, bare.FREE_S - 2))
    monkeypatch.setattr(Setting, "seconds_left", lambda _: next(left_s))
    found = bare.run(setting, "p")
    assert [*found["fp32"], *found["fp16"]] == ["8 device", "8 device"]
    assert found["left_out"] == ["fp32 8 host", "fp16 8 host"]


def test_steps_have_names_of_their_own_and_functions_that_exist():
    assert len({step.name for step in bench_gpu.STEPS}) == len(bench_gpu.STEPS)
    for step in bench_gpu.STEPS:
        module, function = step.call.split(".")
        call = getattr(importlib.import_module(f"tests.bench.gpu.{module}"), function)
        inspect.signature(call).bind("setting", *step.given)


def test_inputs_are_prepared_without_ray():
    """A machine that draws pictures and exports models for another one need not have it."""
    code = (
        "import sys; sys.modules['ray'] = None; from tests.bench import bench_gpu; from tests.bench.gpu import inputs; "
        "bench_gpu.inputs.prepare = lambda folder, names, quick: {name: 1 for name in names}; bench_gpu.main()"
    )
    command = [sys.executable, "-c", code, "--prepare", "folder", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
    assert {*json.loads(done.stdout)} == {*inputs.TASKS}, done.stderr


def test_inputs_of_a_rehearsal_are_not_measured(prepared):
    with pytest.raises(RuntimeError, match=r"has inputs for a rehearsal .--quick., expected a measurement; give"):
        inputs.prepare(prepared, inputs.PORTABLE, quick=False)


def _given(out: Path, **more: object) -> argparse.Namespace:
    return argparse.Namespace(**({"out": out, "budget_s": float("inf"), "results": None, "again": ""} | more))


def test_a_step_is_run_once_and_a_failed_one_again(setting, tmp_path, monkeypatch):
    ran = []

    def run_step(name: str, setting: Setting, *, limit_s: float, end_s: float) -> tuple[object, str]:
        assert end_s == 5 * bench_gpu.CPU_FACTOR < limit_s
        ran.append(name)
        return ({"figure": 1}, "") if name == "good" or len(ran) > 3 else (None, "exit code 1: it broke")

    monkeypatch.setattr(bench_gpu, "run_step", run_step)
    monkeypatch.setattr(inputs, "OF_MACHINE", ("bytecode",))
    steps = [bench_gpu.Step(name=name, seconds=5, call="bare.run") for name in ("good", "bad", "dear")]
    first = bench_gpu.run_steps([*steps[:2]], setting, _given(tmp_path / "out"))
    assert first["failed"] == {"bad": "exit code 1: it broke"}
    assert "Failed: bad" in table.render(first)
    second = bench_gpu.run_steps(steps, setting, _given(tmp_path / "out", budget_s=4.0))
    assert second["left_out"] == ["bad", "dear"]
    third = bench_gpu.run_steps(steps, setting, _given(tmp_path / "out"))
    assert ran == ["good", "bad", "bad", "dear"]
    assert third["failed"] == {"bad": "exit code 1: it broke"}
    results = tmp_path / "out" / "results.json"
    assert [*json.loads(results.read_text())["results"]] == ["good", "dear"]
    fourth = bench_gpu.run_steps(steps, setting, _given(tmp_path / "other", results=results))
    assert ran[4:] == ["bad"]
    assert [*fourth["results"]] == ["good", "dear", "bad"]
    newer, again = replace(setting, commit="b2"), _given(tmp_path / "other", again="good")
    for _ in range(2):  # and what the same commit measured anew is not measured once more
        fifth = bench_gpu.run_steps(steps, newer, again)
    assert ran[5:] == ["good"]
    assert fifth["commits"] == {"good": "b2", "dear": "unknown", "bad": "unknown"}


@pytest.mark.parametrize("budget_s", [float("inf"), 4.0])
def test_a_result_stays_until_its_step_has_been_measured_anew(budget_s, setting, tmp_path, monkeypatch):
    monkeypatch.setattr(bench_gpu, "run_step", lambda *_, **__: (None, "exit code 1: it broke"))
    monkeypatch.setattr(inputs, "OF_MACHINE", ("bytecode",))
    step = bench_gpu.Step(name="good", seconds=5, call="bare.run")
    kept = {"provider": setting.provider, "quick": setting.quick, "seconds": {"good": 2}}
    results = tmp_path / "gpu.json"
    results.write_text(json.dumps(kept | {"results": {"good": {"figure": 1}}, "commits": {"good": "a1"}}))

    given = _given(tmp_path / "out", results=results, again="good", budget_s=budget_s)
    found = bench_gpu.run_steps([step], setting, given)

    assert found["results"] == {"good": {"figure": 1}}
    assert found["commits"] == {"good": "a1"}
    assert [*found["failed"], *found["left_out"]] == ["good"]


def test_steps_that_were_measured_with_another_version_are_named():
    facts = {"commit": "a1", "versions": {}, "card": "H", "driver": "1", "cores": 16, "cpu": "X"}
    found = {"results": {"environment": facts}, "failed": {}, "left_out": []}
    assert "commit a1; " in table.render(found)
    assert "commit a1, cores of b2; " in table.render(found | {"commits": {"environment": "a1", "cores": "b2"}})


def test_a_program_whose_library_is_missing_is_named(setting, monkeypatch):
    monkeypatch.setitem(contenders.NEEDS, "seed_ort", "no_such_library")
    found = {"results": {"peer-seed_ort": contenders.run(setting, "seed_ort")}, "failed": {}, "left_out": []}
    assert "| no_such_library is missing |" in table.render(found)


def test_results_of_a_rehearsal_are_not_continued_on_a_card(setting, tmp_path):
    (tmp_path / "results.json").write_text('{"provider": "cpu", "quick": true, "results": {}, "seconds": {}}')
    with pytest.raises(SystemExit, match="give another --out"):
        bench_gpu.run_steps([], replace(setting, provider="cuda"), _given(tmp_path))


def test_results_of_another_machine_are_not_continued(setting, tmp_path):
    facts = card.describe() | {"card": "another card"}
    found = {"provider": "cpu", "quick": True, "results": {"environment": facts}, "seconds": {}}
    (tmp_path / "results.json").write_text(json.dumps(found))
    with pytest.raises(SystemExit, match=r"has results of another machine \(another card, not "):
        bench_gpu.run_steps([], setting, _given(tmp_path))


def test_a_step_that_hangs_is_killed_with_its_output_kept(setting):
    result, output = bench_gpu.run_step("environment", setting, limit_s=0.05, end_s=1.0)
    assert result is None
    assert output.startswith("killed after 0 s")


def test_a_step_ends_with_the_bench_that_is_killed_and_what_it_has_started_too():
    """Its session is its own: otherwise it would go on, and the next call would measure beside it."""
    step = (
        "import os, subprocess; from tests.bench import bench_gpu; bench_gpu.PARENT_EVERY_S = 0.02; "
        "parent = os.getppid(); job = subprocess.Popen(['sleep', '60'], start_new_session=True); "
        "print(os.getpid(), job.pid, flush=True); bench_gpu.end_with(parent)"
    )
    bench = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {step!r}], start_new_session=True, check=False)"
    )
    command = [sys.executable, "-c", bench]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]) as process:
        pids = [int(word) for word in process.stdout.readline().split()]
        process.kill()
    deadline = time.monotonic() + 10
    while any(map(_runs, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(pids) == 2
    assert not any(map(_runs, pids))


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_commits_of_the_start_and_the_end_do_not_count():
    done = [(float(second), 10) for second in range(10, 110)]
    steady = jobs.steady_part(done)
    assert (steady[0][0], steady[-1][0]) == (24.0, 99.0)
    assert jobs.steady_part(done[:5]) == done[:5]


def _simulated(frames: int, *, card_per_s: float, decode_ms: float, rest_ms: float) -> dict[str, Any]:
    """Return commits and decode tasks of a job on 16 cores that mask what the card has scored before they decode more.

    Nothing is decoded before the start.
    """
    cores, part, step_s, now = 16, 240, 0.01, 0.0
    limits = BlockLimits(max_items=512, consumers=22, blocks_per_consumer=1, last_items=32, multiple=64)
    waiting, running, begun, sizes = block_sizes(frames, limits)[::-1], [0.0] * cores, [0.0] * cores, [0] * cores
    scored, masked = 0.0, 0.0
    done: list[tuple[float, int]] = []
    tasks: list[tuple[float, float, int]] = []
    while masked < frames - 0.5:
        for core in range(cores):
            if running[core] <= 0:
                tasks += [(begun[core], now, sizes[core])] if sizes[core] else []
                sizes[core] = waiting.pop() if waiting else 0
                running[core], begun[core] = float(sizes[core]), now
        now += step_s
        masked_s = min(cores * step_s, rest_ms / 1e3 * (scored - masked))
        masked += 1e3 / rest_ms * masked_s
        progress = 1e3 / decode_ms * (step_s - masked_s / cores)
        running = [left - progress for left in running]
        decoded = frames - sum(waiting) - sum(max(0.0, left) for left in running)
        scored += min(card_per_s * step_s, decoded - scored)
        done += [(now, part)] * (int(masked) // part - len(done))
    tasks += [(began, now, size) for began, size in zip(begun, sizes, strict=True) if size]
    return {"done": done, "tasks": tasks, "decode_share": decode_ms / (decode_ms + rest_ms)}


@pytest.mark.parametrize("card_per_s", [20_000.0, 5_200.0, 3_300.0])
@pytest.mark.parametrize(("frames", "size_factor"), [(20_000, 1), (800, 20)])
def test_a_short_job_tells_the_rate_of_a_long_one_if_nothing_is_decoded_ahead(card_per_s, frames, size_factor):
    """The cores give 16 frames in 5.4 ms; pictures of 12 megapixels take some 20 times as long."""
    costs = {"decode_ms": 2.7 * size_factor, "rest_ms": 2.7 * size_factor}
    short, long = (_simulated(count, card_per_s=card_per_s, **costs) for count in (frames, 10 * frames))
    lasts = [commit for commit in long["done"] if 0.3 < commit[0] / long["done"][-1][0] < 0.6]
    expected = sum(count for _, count in lasts[1:]) / (lasts[-1][0] - lasts[0][0])
    assert jobs.lasting_rate(**short) == pytest.approx(expected, rel=0.05)


def test_samples_of_the_card_are_averaged_over_the_time_asked_for():
    sampler = card.CardSampler()
    lines = ("90, 4000, 500.0, 1980", "70, 4100, [N/A], 1980", "0, 10, 70.0, 345")
    sampler.samples = [(100.0 + at, card.parse(line)) for at, line in enumerate(lines)]
    found = sampler.between(99.5, 101.5)
    assert found == {"busy_share": 0.8, "peak_memory_mb": 4100, "power_w": 500, "clock_mhz": 1980}
    assert sampler.between(110, 111)["busy_share"] is None


def test_the_card_is_sampled_while_a_block_runs(monkeypatch):
    monkeypatch.setattr(card, "find_reader", lambda: lambda: (50.0, 1.0, 2.0, 3.0))
    monkeypatch.setattr(card, "EVERY_S", 0.01)
    with card.CardSampler() as sampler:
        time.sleep(0.1)
    assert sampler.between(0, time.time())["busy_share"] == 0.5
    count = len(sampler.samples)
    time.sleep(0.05)
    assert len(sampler.samples) == count


@pytest.mark.parametrize("links", [True, False])
def test_a_few_pictures_become_many_files_on_any_file_system(links, prepared, tmp_path, monkeypatch):
    def link(*_: object) -> None:
        raise OSError("cross-device link")

    if not links:
        monkeypatch.setattr(inputs.os, "link", link)
    folder = inputs.linked(prepared / "distinct-512", tmp_path / "all", 7)
    assert len({path.read_bytes() for path in folder.iterdir()}) == 3
    assert len(inputs.write_list(folder, tmp_path / "list.csv", 5).read_text().splitlines()) == 6
