"""TensorRT's engines are built once per key, are whole or not there, and belong to this user."""

import dataclasses
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fsf_core.errors import BundleError, ProviderError
from fsf_core.model.engine_cache import EngineKey, engine_options, shape_profile, tensorrt_version

KEY = EngineKey(model=b"model", card="NVIDIA H100 80GB HBM3 9.0", tensorrt="10.13.3", onnxruntime="1.31.1", profile={})
ENGINE = "TensorrtExecutionProvider_graph_1_sm90.engine"


def _build(home: Path, key: EngineKey = KEY, content: bytes = b"engine") -> Path:
    """Open a session as onnxruntime does: it reads an engine, or writes one in place."""
    with engine_options(str(home), key) as options:
        folder = Path(options["trt_engine_cache_path"])
        if not (folder / ENGINE).exists():
            (folder / ENGINE).write_bytes(content)
    return home / key.folder_name


def test_engines_are_built_once_in_a_folder_of_this_user_alone(tmp_path: Path) -> None:
    home = tmp_path / "of" / "engines"

    folder = _build(home)
    assert _build(home, content=b"another") == folder

    assert (folder / ENGINE).read_bytes() == b"engine"
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(home.stat().st_mode) == 0o700
    assert [path.name for path in home.iterdir() if path.is_dir()] == [folder.name], "no folder is left from building"


@pytest.mark.parametrize(
    "changes",
    [
        {"model": b"model2"},
        {"card": "NVIDIA H200 9.0"},
        {"tensorrt": "10.14.1"},
        {"onnxruntime": "1.32.0"},
        {"profile": shape_profile([("images", (None, 3, 8, 8))])},
    ],
)
def test_another_model_card_version_or_shape_has_another_folder(changes: dict[str, object]) -> None:
    other = dataclasses.replace(KEY, **changes)  # type: ignore[arg-type] # mypy knows no keys of **
    assert other.folder_name != KEY.folder_name
    assert set(other.folder_name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-")


def test_a_session_that_fails_leaves_no_engines(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no"), engine_options(str(tmp_path), KEY) as options:  # noqa: PT012 - the block
        (Path(options["trt_engine_cache_path"]) / ENGINE).write_bytes(b"half")
        raise BundleError("no")

    assert not (tmp_path / KEY.folder_name).exists()
    assert (_build(tmp_path) / ENGINE).read_bytes() == b"engine"


BUILD = """
import sys, time, pathlib
from fsf_core.model.engine_cache import EngineKey, engine_options
home, seconds = sys.argv[1], float(sys.argv[2])
key = EngineKey(model=b"model", card="NVIDIA H100 80GB HBM3 9.0", tensorrt="10.13.3", onnxruntime="1.31.1", profile={})
with engine_options(home, key) as options:
    engine = pathlib.Path(options["trt_engine_cache_path"], "TensorrtExecutionProvider_graph_1_sm90.engine")
    if engine.exists():
        print("read", engine.read_text(), flush=True)
    else:
        print("builds", flush=True)
        engine.write_text("half")
        time.sleep(seconds)
        engine.write_text("whole")
"""


def _start(home: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", BUILD, str(home), str(seconds)], stdout=subprocess.PIPE, text=True)


def test_two_processes_at_once_build_one_engine_and_the_second_reads_it_whole(tmp_path: Path) -> None:
    first = _start(tmp_path, 0.5)
    assert first.stdout is not None
    assert first.stdout.readline() == "builds\n"

    found, _ = _start(tmp_path, 0.5).communicate(timeout=30)

    assert found == "read whole\n"
    assert first.wait(timeout=30) == 0


def test_what_a_killed_process_left_is_built_again(tmp_path: Path) -> None:
    killed = _start(tmp_path, 60)
    assert killed.stdout is not None
    assert killed.stdout.readline() == "builds\n"
    killed.send_signal(signal.SIGKILL)
    killed.wait(timeout=30)

    begun = time.monotonic()
    assert (_build(tmp_path) / ENGINE).read_bytes() == b"engine"
    assert time.monotonic() - begun < 5, "its lock is gone with it"


def test_a_folder_that_cannot_be_written_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ProviderError, match=r"file cannot be used: .*; give --engine-cache a folder on each node"),
        engine_options(str(tmp_path / "file"), KEY),
    ):
        pass


def test_engines_of_another_user_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _build(tmp_path)
    owner = folder.stat().st_uid
    os.chown(folder, 12345, -1) if owner == 0 else monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(ProviderError, match="belong to user"), engine_options(str(tmp_path), KEY):
        pass


def test_a_damaged_engine_is_named_and_other_errors_pass_unchanged(tmp_path: Path) -> None:
    folder = _build(tmp_path)
    torn = "TensorRT EP could not deserialize engine from cache: TensorrtExecutionProvider.engine"
    with pytest.raises(ProviderError, match=f"{torn}; remove {folder}"), engine_options(str(tmp_path), KEY):
        raise BundleError(torn)
    with pytest.raises(BundleError, match=r"^another$"), engine_options(str(tmp_path), KEY):
        raise BundleError("another")


def test_one_engine_is_built_for_all_batches_and_none_for_free_sizes() -> None:
    assert shape_profile([("images", (None, 3, 224, 224)), ("size", (2,))]) == {
        "trt_profile_min_shapes": "images:1x3x224x224",
        "trt_profile_opt_shapes": "images:128x3x224x224",
        "trt_profile_max_shapes": "images:256x3x224x224",
    }
    assert shape_profile([("images", (4, 3, 224, 224))]) == {}
    with pytest.raises(ProviderError, match="the size of the model's input depends on the image"):
        shape_profile([("images", (1, 3, None, None))])


def test_a_missing_tensorrt_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fsf_core.model.engine_cache.LIBRARIES", ("libnvinfer.so.0",))
    with pytest.raises(ProviderError, match=r"libnvinfer\.so\.0: .*; install it \(pip install 'tensorrt-cu13<11'\)"):
        tensorrt_version()
