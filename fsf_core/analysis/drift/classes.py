"""The classes of two runs, matched by name. Pure."""

# J classes of both runs together

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fsf_core.errors import OutputError


@dataclass(frozen=True, kw_only=True)
class JointClasses:
    """The classes of two runs: those of the first, then those that only the second has."""

    names: tuple[str, ...]
    of_a: NDArray[np.uint16]
    """Joint id of every class id of the first run."""
    of_b: NDArray[np.uint16]
    """Joint id of every class id of the second run."""
    common: tuple[tuple[str, int, int], ...]
    """Name, id in the first and id in the second run of the classes that both have."""
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]

    @property
    def same_ids(self) -> bool:
        """Whether equal masks have equal classes."""
        return np.array_equal(self.of_a, self.of_b)


def join_classes(a: Sequence[str], b: Sequence[str]) -> JointClasses:
    """Match the classes of two runs by name.

    Raises:
        OutputError: no class of one run is a class of the other.
    """
    common = tuple((name, at, b.index(name)) for at, name in enumerate(a) if name in b)
    if not common:
        raise OutputError(
            f"the classes of the runs are {_shown(a)} and {_shown(b)}, expected at least one name in both: classes are "
            "matched by name; compare runs of one set of classes"
        )
    only_b = tuple(name for name in b if name not in a)
    names = (*a, *only_b)
    return JointClasses(
        names=names,
        of_a=np.arange(len(a), dtype=np.uint16),
        of_b=np.asarray([names.index(name) for name in b], np.uint16),
        common=common,
        only_a=tuple(name for name in a if name not in b),
        only_b=only_b,
    )


def _shown(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown  # noqa: PLR2004 - a line
