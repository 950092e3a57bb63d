"""Print the count table of a run or of one item, and draw an item's classes over its image.

fsf inspect runs/today
fsf inspect runs/today img236.jpg --png look.png --legend
"""

from fsf_core.config import InspectConfig
from fsf_core.errors import ConfigError
from fsf_core.options import SCHEMES


def run(run_folder: str, item: str | None, config: InspectConfig) -> int:
    """Print and draw; returns the exit code.

    Raises:
        ConfigError: no such item, or --png has another suffix.
    """
    from fsf_core import runs, storage
    from fsf_core.cli.output import show
    from fsf_core.report.inspect import draw, find_item, item_table, run_table

    folder = runs.find_run(run_folder)
    if item is None and config.png is None and config.frame is None:
        show(run_table(folder), lines=True)
        return 0
    item_id = find_item(folder, item)
    show(item_table(folder, item_id, frame_index=config.frame), lines=True)
    if config.png is not None:
        if not config.png.lower().endswith(".png"):
            raise ConfigError(f"--png is {config.png!r}, expected a name that ends in .png")
        drawn = draw(
            folder,
            item_id,
            frame_index=config.frame,
            clear_background=config.clear_background,
            legend=config.legend,
            access=storage.Access(schemes=SCHEMES, http_hosts=config.http_hosts),
        )
        storage.write_bytes(storage.absolute(config.png), drawn.png)
        show(f"wrote {config.png} ({drawn.width_px}×{drawn.height_px}, frame {drawn.frame_index})")
    return 0
