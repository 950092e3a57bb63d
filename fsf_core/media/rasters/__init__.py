"""Images that are read by windows, and masks that are written by rows: pictures of any size in bounded memory.

Knows TIFF and georeference, through open files. Knows no URIs, no network, no model.
"""

from fsf_core.media.rasters.georeference import Georeference
from fsf_core.media.rasters.mask_tiff import MaskRaster, MaskWriter, read_mask
from fsf_core.media.rasters.raster import Raster, whole
from fsf_core.media.rasters.tiff_raster import open_raster

__all__ = ["Georeference", "MaskRaster", "MaskWriter", "Raster", "open_raster", "read_mask", "whole"]
