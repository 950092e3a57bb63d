"""How items are found, as several commands take it."""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from fsf_core.config.groups import ITEMS
from fsf_core.config.values import Names
from fsf_core.options import TarIds


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """How the items of folders, archives and Parquet tables are found, as `fsf score` and `fsf bench` take it."""

    exclude: Annotated[Names, Parameter(group=ITEMS)] = ()
    """Leave out files of a folder, glob or tar that match, such as 'labels/,*.seg.png'; patterns as in .gitignore."""
    tar_ids: Annotated[TarIds, Parameter(group=ITEMS)] = "key"
    """Ids of the members of tar archives: key (the path up to the first dot of the name) or name (the whole path)."""
    image_column: Annotated[str | None, Parameter(group=ITEMS)] = None
    """Column of a Parquet table that holds the images, where there are several or a column uri."""
