"""What a model's own files contain of its input, output and classes, what is missing, and a document to fill in.

Writes nothing. Runs the model on drawn images where its preprocessing is known, as nothing else shows its output.
"""

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from fsf_core.class_names import names_in_metadata
from fsf_core.config import ExportConfig
from fsf_core.errors import RunError
from fsf_core.export.adapters import feed, read_input, without_bfloat16
from fsf_core.export.build import network_that_fits
from fsf_core.export.checkpoint_file import read_checkpoint
from fsf_core.export.contents import ROOT, abbreviated, contents_of, holder_names
from fsf_core.export.families.found import FamilyRequest, FoundModel
from fsf_core.export.from_network import array_function
from fsf_core.export.from_onnx import from_onnx, original_session, read_onnx
from fsf_core.export.graph import opset_of, real_inputs, sizes_of
from fsf_core.export.input_keys import missing_keys, shown_keys, shown_value
from fsf_core.export.interface import FileInput, Given, input_of_network, known_input, profile_of, with_found
from fsf_core.export.model_files import ModelFiles, open_model
from fsf_core.export.onnx_file import load_onnx
from fsf_core.export.output_kind import read_output
from fsf_core.export.outputs import example_batch, single_output
from fsf_core.export.sample_images import drawn_images
from fsf_core.model.preprocess import Profile, fit, normalise
from fsf_core.options import OutputKind

IMAGES = 4
"""Drawn images whose outputs show what the output means."""
_NAMES_SHOWN = 20


@dataclass(kw_only=True, slots=True)
class Inspection:
    """What a model's own files contain."""

    source: str
    kind: str
    """onnx, checkpoint, or the name of a family."""
    tensors: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """`inputs` and `outputs`: name, type and shape of each; None for a free size."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Opset, number of parameters, and what only this kind of file has."""
    classes: tuple[str, ...] = ()
    input: dict[str, Any] = field(default_factory=dict)
    """What is known of the input, by the keys of the document."""
    output: dict[str, Any] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    """What has to be given, by the keys of the document; classes too."""
    files: dict[str, str] = field(default_factory=dict)
    """Section to the name of the file that it was read from."""
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return the findings for people."""
        kinds = {"onnx": "an ONNX file", "checkpoint": "a checkpoint: weights without a network"}
        lines = [f"{self.source}: {kinds.get(self.kind, f'a model of the family {self.kind}')}"]
        lines += [f"{name}: {_text(value)}" for name, value in self.facts.items()]
        for section, tensors in self.tensors.items():
            lines += [
                f"{section[:-1]} {one['name']}: {one['type']} "
                f"[{', '.join('free' if side is None else str(side) for side in one['shape'])}]"
                for one in tensors
            ]
        if self.kind != "checkpoint":
            shown = f"{len(self.classes)}: {abbreviated(self.classes)}" if self.classes else "no names"
            lines.append(f"classes: {shown}{self._from('classes') if self.classes else ''}")
            for section in ("input", "output"):
                values = ", ".join(f"{key} {shown_value(value)}" for key, value in getattr(self, section).items())
                lines.append(f"{section}: {values or 'nothing'}{self._from(section) if values else ''}")
            lines.append(f"missing: {', '.join(self.missing) or 'nothing'}")
        return [*lines, *(f"note: {note}" for note in self.notes)]

    def _from(self, section: str) -> str:
        return f" (from {self.files[section]})" if section in self.files else ""

    def to_json(self) -> dict[str, Any]:
        """Return the findings for programs."""
        content = {name: getattr(self, name) for name in ("source", "kind", "classes", "input", "output", "missing")}
        content |= {**self.tensors, **self.facts, "files": self.files, "notes": self.notes}
        document: dict[str, Any] = json.loads(json.dumps(content))
        return document


def inspect_model(source: str) -> Inspection:
    """Read a model.

    Args:
        source: path or URI of an ONNX file, a checkpoint, or a model of a family.

    Raises:
        RunError: there is no model, or it cannot be read.
    """
    with open_model(source, weights=True) as model:
        if model.family is None and not model.is_onnx:
            return _of_checkpoint(source, model.path)
        found = None if model.family is None else model.family.read(model.path, FamilyRequest(source=source))
        graph = model.path if model.is_onnx and (found is None or found.onnx is None) else found and found.onnx
        return _of_network(source, found) if graph is None and found else _of_onnx(source, model, graph, found)


# ------------------------------------------------------------------------------------------------------- each kind


def _of_onnx(source: str, model: ModelFiles, graph: Any, found: FoundModel | None) -> Inspection:
    whole = load_onnx(graph if isinstance(graph, bytes) else str(graph))
    names = [value.name for value in whole.graph.output]
    result = Inspection(
        source=source,
        kind=model.family.name if model.family else "onnx",
        tensors={
            "inputs": [_onnx_tensor(value) for value in real_inputs(whole)],
            "outputs": [_onnx_tensor(value) for value in whole.graph.output],
        },
        facts={
            "opset": opset_of(whole),
            "parameters": sum(int(np.prod(one.dims)) for one in whole.graph.initializer),
        },
    )
    metadata = names_in_metadata({entry.key: entry.value for entry in whole.metadata_props})
    given = _take(result, found, metadata)
    if len(names) > 1 and given.output_name not in names:
        result.missing.append(f"name of the output ({', '.join(names)})")
        result.output.setdefault("name", None)
    try:
        file_input = read_input(without_bfloat16(whole), source)
    except RunError as error:
        result.notes.append(str(error))
        return result
    profile = _know_input(result, given, file_input)
    if profile is not None and (len(names) == 1 or given.output_name in names):
        one = without_bfloat16(
            read_onnx(graph if isinstance(graph, bytes) else str(graph), output_name=given.output_name)
        )
        _know_output(result, given, profile, lambda: _session_of(one, profile))
    return result


def _session_of(model: onnx.ModelProto, profile: Profile) -> Any:
    session = original_session(model, from_onnx(model, profile))
    return lambda batch_NCHW: session.run(feed(batch_NCHW, profile))


def _of_network(source: str, found: FoundModel) -> Inspection:
    network = found.network
    assert network is not None, "a family gives a network or an ONNX file"
    result = Inspection(source=source, kind=found.family)
    result.facts["parameters"] = sum(parameter.numel() for parameter in network.parameters())
    given = _take(result, found, ())
    height_px, width_px = found.input_hw
    shape = [found.batch, 3, height_px, width_px]
    result.tensors["inputs"] = [{"name": "images", "type": "float32", "shape": shape}]
    file_input = input_of_network(found)
    profile = _know_input(result, given, file_input)
    if profile is None:
        return result

    def one_output() -> Any:
        one = single_output(network.eval(), example_batch(profile, images=found.batch or 2), wanted=given.output_name)
        result.notes += [one.note] if one.note else []
        return array_function(one.network, found.batch)

    _know_output(result, given, profile, one_output)
    return result


def _of_checkpoint(source: str, path: Path) -> Inspection:
    contents = contents_of(read_checkpoint(path, source=source), source)
    result = Inspection(source=source, kind="checkpoint")
    result.facts["numbers"] = sum(tensor.numel() for tensor in contents.tensors.values())
    result.facts["types"] = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in contents.tensors.values()})
    sets = {}
    for holder in holder_names(contents)[:_NAMES_SHOWN]:
        outer = "" if holder == ROOT else f"{holder}."
        shapes = {
            name.removeprefix(outer): list(tensor.shape)
            for name, tensor in contents.tensors.items()
            if (contents.holders[name] or ROOT) == holder
        }
        sets[holder] = f"{len(shapes)} tensors {abbreviated(list(shapes))}"
        if fits := network_that_fits(shapes):
            name = "" if holder == ROOT else f"{holder}: "
            result.notes.append(f"{name}{fits.removesuffix(': ask for that')}; name it with --net")
    result.facts["sets"] = sets
    if len(sets) > 1:
        result.notes.append("there are several sets of weights: name one with --weights-key")
    if not any("fits" in note for note in result.notes):
        result.notes.append("no FastSegFormer has these keys: name the network with --net package.module:callable")
    return result


# ----------------------------------------------------------------------------------------------------- what is known


def _take(result: Inspection, found: FoundModel | None, metadata: tuple[str, ...]) -> Given:
    """Take over what a family or the metadata contain; returns it as what an export is given."""
    given = Given(input={})
    result.classes = metadata
    if found is not None:
        given = with_found(given, found.document, found.family)
        result.classes = found.classes or metadata
        result.files = dict(found.sources)
        result.notes += found.notes
    known = {"kind": given.kind, "layout": given.layout, "name": given.output_name, **given.treatment}
    result.output |= {key: value for key, value in known.items() if value is not None}
    if not result.classes:
        result.missing.append("classes")
        result.notes += [found.about_classes] if found and found.about_classes else []
    return given


def _know_input(result: Inspection, given: Given, file_input: FileInput) -> Profile | None:
    """Add what is known of the input and what is missing; returns the profile if nothing is."""
    config = ExportConfig(model=result.source, out="-")
    result.input = known_input(config, given, file_input)
    missing = missing_keys(result.input)
    result.missing += missing
    return None if missing else profile_of(config, given, file_input)


def _know_output(result: Inspection, given: Given, profile: Profile, function: Any) -> None:
    """Add what the output holds, by the numbers for drawn images; a note says why it stays unknown."""
    try:
        run = function()
        raws = [
            run(normalise(fit(sample.image_HWC, profile)[None], profile.levels())) for sample in drawn_images()[:IMAGES]
        ]
        result.tensors.setdefault("outputs", [_numpy_tensor("output", raws[0])])
        if result.classes:
            output, reason = read_output(raws, given, names=len(result.classes))
            result.output |= {"kind": output.kind, "layout": output.layout}
            result.notes += [f"the output holds {output.kind}: {reason}"] if reason else []
    except RunError as error:
        result.notes.append(str(error))


def _onnx_tensor(value: onnx.ValueInfoProto) -> dict[str, Any]:
    kind = TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
    return {
        "name": value.name,
        "type": {"float": "float32", "double": "float64"}.get(kind, kind),
        "shape": sizes_of(value),
    }


def _numpy_tensor(name: str, array: NDArray[Any]) -> dict[str, Any]:
    return {"name": name, "type": str(array.dtype), "shape": [None, *array.shape[1:]]}


# ------------------------------------------------------------------------------------------------------- the document


def proposal(found: Inspection, path: str) -> str:
    """Return the YAML document to fill in, or "" for a checkpoint, whose network decides what it takes.

    Args:
        found: of `inspect_model`.
        path: the file that it will be in, for the command in its head.
    """
    if found.kind == "checkpoint":
        return ""
    words = ["fsf", "export", "--model", found.source, "--model-config", path]
    words += [] if found.classes else ["--classes", "NAME,NAME"]
    command = shlex.join([*words, "--out", "bundles/NAME"])
    choices = dict(shown_keys(found.input))
    lines = ["# Fill in every key without a value, then:", f"#   {command}", "input:"]
    lines += _entries([*choices, *(key for key in found.input if key not in choices)], found.input, choices)
    if found.output:
        lines += ["output:", *_entries(found.output, found.output, {"name": "the output with the scores"})]
    if "kind" not in found.output:
        lines += ["# output:", f"#   kind: {', '.join(get_args(OutputKind))}; without it, what the numbers show"]
    return "\n".join(lines) + "\n"


def _entries(keys: Iterable[str], known: Mapping[str, Any], choices: Mapping[str, str]) -> list[str]:
    """Return the lines of a section; a key without a value has its choices behind it."""
    lines = []
    for key in keys:
        value = known.get(key)
        comment = choices.get(key, "").replace("|", ", ")
        shown = f" {_yaml(value)}" if value is not None else f"  # {comment}" if comment else ""
        lines.append(f"  {key}:{shown}")
    return lines


def _yaml(value: Any) -> str:
    text = shown_value(value)
    return text if re.fullmatch(r"[\w.\-]+|\[[\d., e+\-]+\]", text) or not isinstance(value, str) else json.dumps(text)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{name} has {inner}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if type(value) is int else shown_value(value)
