"""Write the report of a run: one HTML page that opens from disk and loads nothing.

fsf report runs/today
fsf report runs/today --against runs/yesterday --out report.html
"""

from fsf_core.config import ReportConfig
from fsf_core.options import SCHEMES


def run(run_folder: str, config: ReportConfig) -> int:
    """Write the page; returns the exit code."""
    from fsf_core import runs, storage
    from fsf_core.cli.output import print_json, show
    from fsf_core.cli.render import reading_of
    from fsf_core.manifest import open_manifest
    from fsf_core.report.build import ReportRequest, write_report

    folder = runs.find_run(run_folder)
    written = write_report(
        folder,
        out=None if config.out is None else storage.absolute(config.out),
        request=ReportRequest(
            pictures=config.pictures,
            side_px=config.picture_px,
            access=storage.Access(schemes=SCHEMES, http_hosts=config.http_hosts),
        ),
        against=None if config.against is None else runs.find_run(config.against),
        manifest=open_manifest(config.manifest, reading_of(folder)) if config.manifest else None,
    )
    show(f"{written['report']}: {written['items']} items, {written['pictures']} pictures, {written['bytes']} bytes")
    print_json(written)
    return 0
