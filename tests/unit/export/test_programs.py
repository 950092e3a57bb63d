"""Programs of torch.export and TorchScript: what is read from them, and that nothing in them is executed as Python."""

import io
import json
import pickle
import zipfile
from dataclasses import replace

import pytest
import torch
from torch import nn

from fsf_core.errors import CheckpointError, ConfigError
from fsf_core.export.families import torch_export, torchscript
from fsf_core.export.families.found import FamilyRequest
from fsf_core.export.families.registry import family_of
from fsf_core.export.from_network import from_network
from fsf_core.model.preprocess import PROFILES

REQUEST = FamilyRequest(source="net.pt2")


class Net(nn.Module):
    """The smallest network whose graph has sizes, a batch norm and a constant of its own type."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(2)

    def forward(self, batch_NCHW: torch.Tensor) -> torch.Tensor:
        features = self.norm(self.conv(batch_NCHW))
        features = features + torch.ones(1, dtype=batch_NCHW.dtype)
        return nn.functional.interpolate(features, size=batch_NCHW.shape[2:], mode="bilinear")


class Levels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, batch_NHWC: torch.Tensor) -> torch.Tensor:
        return self.net(batch_NHWC.permute(0, 3, 1, 2).float() / 255)


def saved(path, network, example, free=()):
    torch.manual_seed(0)
    dims = dict.fromkeys(free, torch.export.Dim.AUTO)
    torch.export.save(torch.export.export(network.eval(), (example,), dynamic_shapes=(dims,) if free else None), path)
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("programs") / "net.pt2", Net(), torch.zeros(2, 3, 16, 24), free=(0, 2, 3))


def test_a_program_of_free_sizes_takes_every_size_and_batch(plain):
    found = torch_export.read(plain, REQUEST)
    assert family_of(plain).name == "torch_export"
    assert (found.batch, found.input_hw, found.document) == (None, (None, None), {})
    expected = torch.export.load(plain).module()
    for shape in ((1, 3, 16, 24), (3, 3, 20, 32)):
        batch_NCHW = torch.rand(shape)
        assert torch.equal(found.network(batch_NCHW), expected(batch_NCHW))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_a_program_of_one_size_computes_in_float32_whatever_its_type(dtype, tmp_path):
    network = Net().to(dtype)
    found = torch_export.read(saved(tmp_path / "a", network, torch.zeros(1, 3, 16, 24, dtype=dtype)), REQUEST)
    assert (found.batch, found.input_hw) == (1, (16, 24))
    batch_NCHW = torch.rand(1, 3, 16, 24)
    with torch.inference_mode():
        assert torch.allclose(found.network(batch_NCHW), network.float()(batch_NCHW), atol=1e-5)


def test_a_program_of_uint8_channels_last_takes_the_levels(tmp_path):
    network = Levels()
    path = saved(tmp_path / "a", network, torch.zeros(1, 16, 24, 3, dtype=torch.uint8))
    found = torch_export.read(path, REQUEST)
    assert (found.input_hw, found.document) == ((16, 24), {"input": {"scale": 1, "mean": 0, "std": 1}})
    assert found.takes_levels
    levels_NHWC = torch.randint(0, 256, (1, 16, 24, 3), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.allclose(found.network(levels_NHWC.permute(0, 3, 1, 2).float()), network(levels_NHWC), atol=1e-6)


def test_a_program_that_takes_no_images_is_refused(tmp_path):
    path = saved(tmp_path / "a", nn.Linear(4, 4), torch.zeros(2, 4))
    with pytest.raises(ConfigError, match=r"takes float32 \[2, 4\], expected one batch of images"):
        torch_export.read(path, REQUEST)


class Marker:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def changed(source, target, **records):
    """Copy an archive; each record is what a function returns for its content, and new ones are added."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        names = old.namelist()
        for name in names:
            change = next((records[key] for key in records if name.endswith(key)), None)
            new.writestr(name, old.read(name) if change is None else change(old.read(name)))
        for key, change in records.items():
            if not any(name.endswith(key) for name in names):
                new.writestr(f"net/{key}", change(b""))
    return target


def edited(change):
    def edit(data):
        content = json.loads(data)
        change(content)
        return json.dumps(content).encode()

    return edit


def pickled(path):
    buffer = io.BytesIO()
    torch.save((Marker(path),), buffer)
    return buffer.getvalue()


def in_graph(change):
    return edited(lambda content: change(content["graph_module"]["graph"]))


def first_expression(graph, text):
    def walk(value):
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            if isinstance(item, dict) and "expr_str" in item:
                item["expr_str"] = text
            walk(item)

    walk(graph)


@pytest.mark.parametrize(
    ("record", "change", "words"),
    [
        ("data/sample_inputs/model.pt", pickled, r"a pickled object \(data/sample_inputs/model\.pt\)"),
        ("data/weights/model.pt", pickled, r"a pickled object \(data/weights/model\.pt\)"),
        (
            "model_weights_config.json",
            lambda _: edited(lambda config: config["config"]["conv.bias"].update(use_pickle=True)),
            r"a pickled object \(conv\.bias\)",
        ),
        (
            "model_constants_config.json",
            lambda _: edited(
                lambda config: config["config"].update(x={"path_name": "opaque_obj_0", "use_pickle": True})
            ),
            r"a pickled object \(x\)",
        ),
        ("data/aotinductor/model/net.so", lambda _: b"\x7fELF", "a compiled library"),
        (
            "models/model.json",
            lambda _: in_graph(lambda graph: graph["nodes"][0].update(target="torch.os.system")),
            r"the operator torch\.os\.system",
        ),
        (
            "models/model.json",
            lambda _: in_graph(lambda graph: graph["nodes"][0].update(target="torch.ops.aten.from_file.default")),
            r"the operator torch\.ops\.aten\.from_file",
        ),
        (
            "models/model.json",
            lambda path: in_graph(lambda graph: first_expression(graph, f"open('{path}', 'w')")),
            "the expression",
        ),
        (
            "models/model.json",
            lambda _: in_graph(lambda graph: first_expression(graph, "Symbol('s1').__class__")),
            "the expression",
        ),
    ],
)
def test_a_program_that_could_run_code_is_refused_before_torch_loads_it(record, change, words, plain, tmp_path):
    marker = tmp_path / "executed"
    value = change(marker)
    path = changed(plain, tmp_path / "a.pt2", **{record: value if callable(value) else lambda _: value})
    with pytest.raises(CheckpointError, match=f"holds {words}.*could run any code"):
        torch_export.read(path, REQUEST)
    assert not marker.exists()


def test_the_guards_of_a_program_which_are_python_are_not_executed(plain, tmp_path):
    marker = tmp_path / "executed"
    guard = edited(lambda content: content.update(guards_code=[f"open({str(marker)!r}, 'w')"]))
    found = torch_export.read(changed(plain, tmp_path / "a.pt2", **{"models/model.json": guard}), REQUEST)
    found.network(torch.rand(1, 3, 16, 24))
    assert not marker.exists()


def test_a_damaged_program_is_refused(plain, tmp_path):
    path = changed(plain, tmp_path / "a.pt2", **{"models/model.json": lambda data: data[:100]})
    with pytest.raises(CheckpointError, match="cannot be read as an exported program"):
        torch_export.read(path, REQUEST)
    path = changed(plain, tmp_path / "b.pt2", **{"models/model.json": lambda _: b'{"graph_module": 1}'})
    with pytest.raises(CheckpointError, match=r"is an exported program that torch .* cannot load"):
        torch_export.read(path, REQUEST)


def test_a_checkpoint_and_a_pickle_are_no_programs(tmp_path):
    torch.save(Net().state_dict(), tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps([1]))
    for name in ("a.pt", "b.pt"):
        assert not torch_export.recognises(tmp_path / name)
        assert not torchscript.recognises(tmp_path / name)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, batch_NCHW: torch.Tensor) -> torch.Tensor:
        logits_NKHW = self.net(batch_NCHW)
        if bool(batch_NCHW.mean() > 0.4):
            logits_NKHW = -logits_NKHW
        return logits_NKHW


def test_a_script_with_a_condition_on_the_images_is_no_graph(tmp_path):
    torch.jit.script(Branching().eval()).save(tmp_path / "a.pt")
    found = torchscript.read(tmp_path / "a.pt", REQUEST)
    with pytest.raises(ConfigError, match=r"at 'if bool\(batch_NCHW.mean\(\) > 0.4\):' it depends on the contents"):
        found.as_graph(found.network, torch.zeros(2, 3, 16, 24))


def test_a_program_of_one_size_takes_no_size_that_depends_on_the_image(tmp_path):
    torch.jit.script(Net().eval()).save(tmp_path / "a.pt")
    found = torchscript.read(tmp_path / "a.pt", REQUEST)
    profile = replace(PROFILES["fastsegformer"], mode="own", name="custom", height_px=0, width_px=0)
    with pytest.raises(ConfigError, match="becomes a graph for a single size"):
        from_network(found.network, profile, found=found)


def test_a_torchscript_program_that_touches_files_is_refused(tmp_path):
    class Writer(nn.Module):
        def forward(self, batch_NCHW: torch.Tensor) -> torch.Tensor:
            torch.save(batch_NCHW, "/tmp/never-written")  # noqa: S108
            return batch_NCHW

    torch.jit.script(Writer()).save(tmp_path / "writer.pt")
    with pytest.raises(CheckpointError, match=r"calls torch\.save, which writes or reads files"):
        torchscript.read(tmp_path / "writer.pt", REQUEST)
