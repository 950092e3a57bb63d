"""The metadata of an ONNX file is read without its graph; no other file is taken for one."""

import pytest

from fsf_core.export.families.onnx_head import metadata_of
from tests.support.deployed_onnx import deployed_onnx


def test_metadata_is_that_of_onnx_itself(tmp_path):
    entries = {"task": "semantic", "names": "{0: 'Straße'}", "empty": ""}
    path = tmp_path / "any.name"
    path.write_bytes(deployed_onnx(end="logits", metadata=entries).SerializeToString())
    assert metadata_of(path) == entries


def test_a_model_without_metadata_has_none(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(deployed_onnx(end="logits").SerializeToString())
    assert metadata_of(path) == {}


@pytest.mark.parametrize("cut", [1, 100, 2000])
def test_a_cut_model_is_none(tmp_path, cut):
    path = tmp_path / "m.onnx"
    path.write_bytes(deployed_onnx(end="logits").SerializeToString()[:-cut])
    assert metadata_of(path) is None


@pytest.mark.parametrize("content", [b"", b"\x08", b"\x08\x08" * 20_000, b"PK\x03\x04" + bytes(100), b"a" * 1000])
def test_other_files_are_none(tmp_path, content):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    assert metadata_of(path) is None
    assert metadata_of(tmp_path) is None
    assert metadata_of(tmp_path / "missing") is None
