"""Refuse a `.pt2` archive that could run code while torch loads it, before torch does.

torch.export.load unpickles records that are marked as pickled, evaluates the expressions of sizes as Python, resolves
operators by any dotted name below `torch`, and loads compiled libraries. What torch.export.save writes for a network of
ordinary operators needs none of that.
"""

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from fsf_core.errors import CheckpointError, InterruptedRunError

_OPERATORS = re.compile(
    r"torch\.ops\.(aten|prims|torchvision|quantized_decomposed)\.\w+\.\w+|torch\.sym_\w+|math\.\w+|"
    r"_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|pow|neg|pos|abs|eq|ne|lt|le|gt|ge|and_|or_|not_)"
)
_TOUCHES_FILES = re.compile(r"torch\.ops\.aten\.(from_file|save|load)\b")
_SYMBOL = re.compile(r"[a-z]+[0-9]+")
_FUNCTIONS = {
    "Symbol", "Integer", "Rational", "Float", "Add", "Mul", "Pow", "Max", "Min", "Mod", "Eq", "Ne", "Lt", "Le", "Gt",
    "Ge", "And", "Or", "Not", "Equality", "Unequality", "StrictLessThan", "LessThan", "StrictGreaterThan",
    "GreaterThan", "FloorDiv", "ModularIndexing", "Where", "PythonMod", "CleanDiv", "CeilToInt", "FloorToInt",
    "CeilDiv", "LShift", "RShift", "PowByNatural", "FloatPow", "FloatTrueDiv", "IntTrueDiv", "TruncToFloat",
    "TruncToInt", "RoundToInt", "RoundDecimal", "ToFloat", "Identity", "IsNonOverlappingAndDenseIndicator",
}  # fmt: skip
"""Functions of expressions of sizes."""
_PLAIN = (
    ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.UnaryOp, ast.BinOp, ast.Compare,
    ast.operator, ast.unaryop, ast.cmpop,
)  # fmt: skip


def require_harmless(path: Path, source: str) -> None:
    """Check the records of an archive of torch.export.save.

    Raises:
        CheckpointError: torch could run code of the file while it loads it, or the archive is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            reason = next(_reasons(archive), None)
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{source} cannot be read as an exported program ({type(error).__name__}: {error}); expected what "
            "torch.export.save writes; copy it again"
        ) from error
    if reason:
        raise CheckpointError(
            f"{source} holds {reason}, which could run any code while torch loads it; expected a program of torch's "
            "own operators with plain tensors; where you trust the file, load it and write it with torch.onnx.export"
        )


def _reasons(archive: zipfile.ZipFile) -> Iterator[str]:
    """Yield what in an archive could run code."""
    for entry in archive.infolist():
        name = entry.filename.partition("/")[2]
        if name.startswith(("data/aotinductor/", "data/executorch/", "data/mtia/")) or name.endswith((".so", ".dll")):
            yield f"a compiled library ({name})"
        if name.endswith((".pt", ".pkl")) and not _is_plain(archive.read(entry)):
            yield f"a pickled object ({name})"
        if name.endswith("_config.json"):
            yield from _pickled_records(json.loads(archive.read(entry)))
        elif name.startswith("models/"):
            yield from _foreign_code(json.loads(archive.read(entry)))


def _is_plain(data: bytes) -> bool:
    """Return whether a record of torch.save holds tensors and plain values only."""
    try:
        torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except InterruptedRunError:
        raise
    except Exception:  # noqa: BLE001 - damaged pickles end in any error
        return not data
    return True


def _pickled_records(config: dict[str, Any]) -> Iterator[str]:
    for name, record in config.get("config", {}).items():
        if record.get("use_pickle") or not str(record["path_name"]).startswith(("weight_", "tensor_")):
            yield f"a pickled object ({name})"


def _foreign_code(value: Any) -> Iterator[str]:
    """Yield operators and expressions in the JSON of a program that are none of torch's own."""
    if isinstance(value, list):
        for item in value:
            yield from _foreign_code(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "target" and isinstance(item, str) and "inputs" in value and not _is_operator(item):
                yield f"the operator {item:.80}"
            elif key == "expr_str" and not _is_size(str(item)):
                yield f"the expression {item!r:.80}"
            elif key in {"in_spec", "out_spec"} and ("__enum__" in str(item) or "defaultdict" in str(item)):
                yield f"a reference to Python objects in {key}"
            else:
                yield from _foreign_code(item)


def _is_operator(target: str) -> bool:
    return bool(_OPERATORS.fullmatch(target)) and not _TOUCHES_FILES.match(target)


def _is_size(expression: str) -> bool:
    """Return whether a text is arithmetic on symbols of sizes."""
    try:
        tree = ast.parse(expression, mode="eval")
    except (SyntaxError, ValueError, RecursionError):
        return False
    return all(_is_arithmetic(node) for node in ast.walk(tree))


def _is_arithmetic(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
    if isinstance(node, ast.Name):
        return node.id in _FUNCTIONS or node.id in {"oo", "int_oo", "true", "false"} or bool(_SYMBOL.fullmatch(node.id))
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return bool(_SYMBOL.fullmatch(node.value))
    return isinstance(node, _PLAIN)
