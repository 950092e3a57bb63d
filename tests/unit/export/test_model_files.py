"""What --model names: files on a disk or in a store, their digests and their family, or why there is none."""

import zipfile

import pytest

from fsf_core import storage
from fsf_core.config import ExportConfig
from fsf_core.errors import BundleError, CheckpointError, ConfigError
from fsf_core.export import model_files
from fsf_core.export.families import optional, registry
from fsf_core.export.interface import read_given
from fsf_core.export.material import read_material
from fsf_core.export.model_files import open_model, open_onnx
from fsf_core.export.request import differences, identity_of
from tests.support.tiny_onnx import tiny_onnx


def archive(path, *names):
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, "")


@pytest.fixture
def program(tmp_path):
    archive(tmp_path / "program.bin", "p/constants.pkl", "p/data.pkl", "p/code/__torch__.py")
    return tmp_path / "program.bin"


def test_a_model_is_recognised_by_its_content_and_not_by_its_name(program, tmp_path):
    (tmp_path / "net.pt").write_bytes(tiny_onnx().SerializeToString())
    with open_model(str(program)) as model:
        assert (model.family.name, model.is_onnx, [*model.sha256]) == ("torchscript", False, ["program.bin"])
    with open_model(str(tmp_path / "net.pt")) as model:
        assert (model.family, model.is_onnx) == (None, True)


def test_a_model_in_a_store_is_fetched_and_removed_again(program):
    storage.write_bytes("memory://models/program", program.read_bytes())
    with open_model("memory://models/program") as model:
        assert model.family.name == "torchscript"
        assert model.path.read_bytes() == program.read_bytes()
    assert not model.path.parent.exists()


def test_a_folder_in_a_store_is_fetched_with_its_subfolders(monkeypatch):
    for name in ("config.json", "inner/weights.bin", "README.md", ".git/HEAD"):
        storage.write_bytes(f"memory://folders/model/{name}", name.encode())
    monkeypatch.setattr(model_files, "family_of", lambda _: registry.FAMILIES[0])
    with open_model("memory://folders/model") as model:
        assert [*model.sha256] == ["config.json", "inner/weights.bin"], "a model card decides nothing"
        assert (model.path / "inner" / "weights.bin").read_text() == "inner/weights.bin"


def test_a_link_to_a_file_is_followed_as_in_caches_of_hubs(tmp_path, monkeypatch):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "abc").write_text("{}")
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "config.json").symlink_to("../blobs/abc")
    monkeypatch.setattr(model_files, "family_of", lambda _: registry.FAMILIES[0])
    with open_model(str(tmp_path / "snapshot")) as model:
        assert [*model.sha256] == ["config.json"]


def write(folder, **files):
    folder.mkdir()
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_bytes(content)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "is an empty folder, expected an ONNX file or a model of one of the families .*; give the folder"),
        ({"README_md": b"# A model"}, "is an empty folder"),
        ({"a_png": b"\x89PNG", "b_png": b"\x89PNG"}, r"is a folder of images \(a\.png, …\)"),
        ({"notes_txt": b"a"}, r"is a folder of notes\.txt, expected"),
        ({"best_onnx": b"a", "names_txt": b"a"}, r"give a file in it, such as best\.onnx"),
    ],
)
def test_a_folder_without_a_model_is_named_by_what_it_is(files, words, tmp_path):
    write(tmp_path / "folder", **files)
    with pytest.raises(ConfigError, match=words), open_model(str(tmp_path / "folder")):
        pass


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"is empty \(0 bytes\).*copy or download it again"),
        (b"\x80\x04K\x01.", "is a pickle that torch.save did not write"),
        (b"\x1f\x8b", "is compressed with gzip.*unpack it"),
        (b"<!doctype html>", "is an HTML page"),
        (b"weights", "is a file that begins with b'weights'"),
    ],
)
def test_a_file_without_a_model_is_named_by_what_it_is(content, words, tmp_path):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ConfigError, match=words), open_model(str(tmp_path / "file")):
        pass


def test_an_archive_of_other_files_is_named(tmp_path):
    archive(tmp_path / "model.zip", "config.json", "model.safetensors")
    with pytest.raises(ConfigError, match=r"is a ZIP archive of config\.json.*unpack it"):
        open_model(str(tmp_path / "model.zip")).__enter__()


def test_a_pointer_of_git_lfs_is_refused_by_the_name_of_the_file(tmp_path):
    write(tmp_path / "folder", config_json=b"{}", model_safetensors=b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(CheckpointError, match=r"model\.safetensors of --model .* Git LFS pointer.*run git lfs pull"):
        open_model(str(tmp_path / "folder")).__enter__()


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").symlink_to("/proc/self/mem")  # unreadable, also for a superuser
    with pytest.raises(CheckpointError, match=r"cannot be read: Input/output error.*check their permissions"):
        open_model(str(tmp_path / "folder")).__enter__()


def test_a_folder_of_more_than_one_model_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(model_files, "MAX_FILES", 1)
    write(tmp_path / "folder", a=b"", b=b"")
    with pytest.raises(ConfigError, match="more than 1 files, expected the folder of one model"):
        open_model(str(tmp_path / "folder")).__enter__()


def test_an_onnx_file_that_no_family_knows_or_that_is_missing_is_left_to_its_reader(tmp_path):
    (tmp_path / "a.onnx").write_bytes(tiny_onnx().SerializeToString())
    for source in (tmp_path / "a.onnx", tmp_path / "gone.onnx", "memory://models/gone.onnx"):
        with open_onnx(str(source)) as model:
            assert model is None


@pytest.mark.parametrize("option", ["onnx", "model"])
def test_a_file_in_a_store_is_read_once(option, monkeypatch):
    storage.write_bytes("memory://models/a.onnx", tiny_onnx().SerializeToString())
    config = ExportConfig(onnx="memory://models/a.onnx", classes=("a", "b"), out="bundle")
    read, read_bytes = [], storage.read_bytes
    monkeypatch.setattr(storage, "read_bytes", lambda uri: read.append(uri) or read_bytes(uri))
    with {"onnx": open_onnx, "model": open_model}[option](config.onnx) as model:
        assert read_material(config, model).onnx_model is not None
    assert read == ["memory://models/a.onnx"]


def test_a_file_in_a_store_that_is_no_model_keeps_its_name():
    storage.write_bytes("memory://models/b.onnx", b"weights")
    config = ExportConfig(onnx="memory://models/b.onnx", classes=("a", "b"), out="bundle")
    with open_onnx(config.onnx) as model, pytest.raises(BundleError, match=r"^memory://models/b\.onnx is not an ONNX"):
        read_material(config, model)


def test_the_file_of_onnx_is_read_alone_whatever_is_beside_it(tmp_path):
    """Where a file beside it cannot be read, the message proposes --onnx, which must not read it again."""
    (tmp_path / "deploy.yaml").write_text("Deploy: {transforms: [{type: Unknown}]}")
    (tmp_path / "model.onnx").write_bytes(tiny_onnx().SerializeToString())
    with open_model(str(tmp_path / "model.onnx")) as model:
        assert model.family.name == "paddleseg"
    with open_onnx(str(tmp_path / "model.onnx")) as model:
        assert model is None


def test_a_library_that_is_not_installed_is_named_with_its_extra():
    with pytest.raises(ConfigError, match=r"the library nolibrary, which is not installed; pip install 'fsf\[extra\]'"):
        optional.load("nolibrary.part", "extra")


def test_every_extra_of_a_family_exists_and_every_module_has_its_functions():
    import tomllib

    extras = tomllib.loads((storage.local_path("pyproject.toml")).read_text())["project"]["optional-dependencies"]
    for family in registry.FAMILIES:
        assert family.extra is None or family.extra in extras
        assert callable(family._module().recognises)
        assert callable(family._module().read)


def test_a_request_is_known_by_digests_options_and_versions_before_the_model_is_loaded(program, monkeypatch):
    def identity(**options):
        config = ExportConfig(model=str(program), out="bundle", **options)
        with open_model(str(program)) as model:
            return identity_of(
                config, profile=None, given=read_given(config), weights_sha256="", samples_sha256=(), model=model
            )

    monkeypatch.setattr(registry.Family, "read", None)  # would fail if it were called
    first = identity(resize="stretch")
    assert first == identity(resize="stretch")
    assert differences(first, identity(resize="letterbox")) == ["profile"]
    assert differences(first, identity(resize="stretch", classes=("a", "b"))) == ["classes"]
    archive(program, "p/constants.pkl", "p/data.pkl", "p/code/net.py")
    assert differences(first, identity(resize="stretch")) == ["files"]
