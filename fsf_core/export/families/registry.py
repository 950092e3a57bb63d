"""The families, in the order in which they are tried, and which of them reads a path. Imports none of the libraries."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsf_core.export.families.found import FamilyRequest, FoundModel
from fsf_core.export.families.named import DISTRIBUTIONS
from fsf_core.options import Exporter


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """A family of models.

    Its module has `recognises(path: Path) -> bool`, which imports nothing heavy and never raises for a foreign file,
    and `read(path: Path, request: FamilyRequest) -> FoundModel`.
    """

    name: str
    """Name of the family and of its module in this package."""
    libraries: tuple[str, ...] = ()
    """Distributions whose versions decide what the network computes."""
    extra: str | None = None
    """Extra of this project that installs them."""
    exporter: Exporter | None = None
    """The exporter that can write its networks, where only one can."""
    reads_beside: bool = False
    """Whether it reads files beside an ONNX file, which --onnx does not name."""
    is_refused: bool = False
    """Whether its models are recognised only to say why they cannot be exported."""

    def recognises(self, path: Path) -> bool:
        """Return whether a file or folder is a model of this family, by its content."""
        return bool(self._module().recognises(path))

    def read(self, path: Path, request: FamilyRequest) -> FoundModel:
        """Read the model.

        Raises:
            RunError: it is incomplete, damaged or not supported, or a library is missing.
        """
        found: FoundModel = self._module().read(path, request)
        return found

    def _module(self) -> Any:
        return importlib.import_module(f"{__package__}.{self.name}")


FAMILIES = (
    Family(name="ultralytics"),
    Family(name="mmdeploy", reads_beside=True),
    Family(name="paddleseg", reads_beside=True),
    Family(name="deepness"),
    Family(name="nnunet", reads_beside=True, is_refused=True),
    Family(name="torch_export"),
    Family(name="torchscript"),
    Family(name="smp", libraries=DISTRIBUTIONS["smp"], extra="smp"),
    Family(name="optimum", libraries=("transformers",), extra="transformers", reads_beside=True),
    Family(name="transformers", libraries=("transformers", "timm"), extra="transformers"),
)


def family_of(path: Path, *, alone: bool = False) -> Family | None:
    """Return the family of a local file or folder, or None.

    Args:
        path: the file or folder.
        alone: whether only the file itself counts, whatever is beside it.
    """
    families = (family for family in FAMILIES if not (alone and family.reads_beside))
    return next((family for family in families if family.recognises(path)), None)
