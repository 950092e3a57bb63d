"""Options of `fsf publish`."""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from fsf_core.config.values import Names
from fsf_core.errors import ConfigError
from fsf_core.options import PublishForm, Segmentation

_OF_FORMS = {
    "items": ("coco", "hf", "png", "label-studio", "cvat"),
    "segmentation": ("coco",),
    "with_images": ("coco", "hf", "png", "label-studio", "cvat"),
    "manifest": ("coco", "hf", "png", "label-studio", "cvat"),
    "image_url": ("label-studio",),
    "shard_mb": ("hf",),
}
"""Options that only some forms take."""

SHARD_MB = 256


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PublishConfig:
    """Options of `fsf publish`."""

    to: PublishForm
    """Delta tables, COCO's JSON, a Hugging Face dataset, PNG masks, or pre-labels of Label Studio or CVAT."""
    out: str
    """Folder to write, on a disk or in a bucket: new or empty; for Delta, the parent folder of the tables."""
    items: str | None = None
    """Publish only the items of this CSV, JSON Lines or Parquet file: item_id or id, and frame_index where wanted."""
    segmentation: Segmentation | None = None
    """COCO: how pixels are written (default: rle). Polygons have no holes: regions with holes stay run lengths."""
    with_images: Annotated[bool | None, Parameter(negative="--without-images")] = None
    """Copy the pictures, too, if they have not changed since they were scored (default: only to hf)."""
    image_url: str | None = None
    """Label Studio: address below which it finds the pictures (default: their own, or its local storage)."""
    shard_mb: int | None = None
    """Hugging Face: size up to which rows share a file, in MiB (default: 256)."""
    manifest: str | None = None
    """The manifest of the run, needed only where pictures have a password or a signature in their URIs."""
    http_hosts: Names = ()
    """Web hosts that items may have, as in `fsf score`."""

    def __post_init__(self) -> None:
        """Check that each option has a meaning for the form.

        Raises:
            ConfigError: one has none, or is out of range.
        """
        for name, forms in _OF_FORMS.items():
            if getattr(self, name) is not None and self.to not in forms:
                raise ConfigError(
                    f"found --{name.replace('_', '-')} with --to {self.to}, expected it only with {', '.join(forms)}; "
                    "leave it out"
                )
        if self.shard_mb is not None and not 1 <= self.shard_mb <= 1 << 20:
            raise ConfigError(f"--shard-mb is {self.shard_mb}, expected 1 to {1 << 20}; correct it")
