"""Statistics and regions of a class map that comes in blocks of rows. Knows no model and no file."""

# K classes, H×W pixels, R regions

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fsf_core.masks import kernels
from fsf_core.masks.class_map import ClassMap
from fsf_core.masks.regions import Regions, as_regions


@dataclass(frozen=True, kw_only=True, slots=True)
class MapCounts:
    """What `FrameMask` has of a class map alone."""

    pixels_K: NDArray[np.int64]
    components_K: NDArray[np.int64]
    largest_component_px_K: NDArray[np.int64]
    regions: Regions | None
    """Of all classes but 0, without probabilities; None where none are wanted."""


@dataclass(kw_only=True, slots=True)
class RowScan:
    """Counts a class map row block by row block, in memory for a few rows and for the regions that are wanted."""

    width_px: int
    num_classes: int
    min_region_px: int | None
    """Regions of fewer pixels are left out; None where none are wanted."""
    _scan: "kernels.Scan" = field(init=False)
    _counts_3K: NDArray[np.int64] = field(init=False)
    _kept: list["kernels.Found"] = field(init=False, default_factory=list)
    _rows: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._scan = kernels.Scan(self.width_px)
        self._counts_3K = np.zeros((3, self.num_classes), np.int64)

    def add(self, rows_HW: ClassMap) -> None:
        """Add rows below those before."""
        self._rows += len(rows_HW)
        for found in self._scan.add(kernels.as_input(rows_HW)):
            self._take(found)

    def end(self) -> MapCounts:
        """Return the counts of all rows; called once."""
        self._take(self._scan.end())
        pixels_K, components_K, largest_K = self._counts_3K
        regions = None
        if self.min_region_px is not None:
            found = kernels.Found._make(np.concatenate(column) for column in zip(*self._kept, strict=True))
            order = np.argsort(found.class_id * (self._rows * self.width_px) + found.first)  # all different
            regions = as_regions(kernels.Found._make(column[order] for column in found), self._rows, self.width_px)
        return MapCounts(
            pixels_K=pixels_K, components_K=components_K, largest_component_px_K=largest_K, regions=regions
        )

    def _take(self, found: "kernels.Found") -> None:
        """Count regions that are complete."""
        pixels_K, components_K, largest_K = self._counts_3K
        np.add.at(pixels_K, found.class_id, found.pixels)
        np.add.at(components_K, found.class_id, 1)
        np.maximum.at(largest_K, found.class_id, found.pixels)
        if self.min_region_px is not None:
            wanted = (found.class_id != 0) & (found.pixels >= self.min_region_px)
            self._kept.append(kernels.Found._make(column[wanted] for column in found))
