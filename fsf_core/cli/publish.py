"""`fsf publish`: a finished run in the shape that another program reads.

Started again, it does what is left; a folder of another run is refused. The last line on stdout is what was written.
Exit codes: 0 done · 2 there is no finished run, or --out holds something else · 3 done, but pictures are missing or
have changed: they are listed in missing.jsonl, and the same command tries them again · 75 a store or a disk failed, the
same command goes on · 129/130/131/143 interrupted, resumable.
"""

from fsf_core.config import PublishConfig
from fsf_core.config.publish import SHARD_MB
from fsf_core.options import SCHEMES

IDENTITY = "identity"
"""Entry of the document that is of use to the program only."""


def run(run_folder: str, config: PublishConfig) -> int:
    """Publish and report; returns the exit code."""
    from fsf_core import runs, storage
    from fsf_core.cli.app import EXIT_GATE
    from fsf_core.cli.output import print_json, show, show_error
    from fsf_core.cli.render import reading_of
    from fsf_core.manifest import open_manifest
    from fsf_core.publish.job import Request, publish_run

    folder = runs.find_run(run_folder)
    done = publish_run(
        Request(
            run_uri=folder,
            where=storage.absolute(config.out),
            to=config.to,
            items=None if config.items is None else storage.absolute(config.items),
            segmentation=config.segmentation or "rle",
            with_images=config.to == "hf" if config.with_images is None else config.with_images,
            manifest=open_manifest(config.manifest, reading_of(folder)) if config.manifest else None,
            image_url=config.image_url,
            shard_bytes=(config.shard_mb or SHARD_MB) << 20,
            access=storage.Access(schemes=SCHEMES, http_hosts=config.http_hosts),
        )
    )
    for each in done.get("missing", ()):
        show_error(f"no picture of {each['item_id']}, frame {each['frame_index']}: {each['reason']}")
    missing = done["pictures_missing"]
    if missing > len(done.get("missing", ())):
        show_error(f"… {missing} pictures are missing; all are listed in {storage.join(config.out, 'missing.jsonl')}")
    show(f"{storage.redact(config.out)}: {done['rows']} rows written, {done['skipped']} were there already")
    shown = {name: value for name, value in done.items() if name != IDENTITY}
    print_json({"run": storage.redact(folder), "out": storage.redact(config.out), **shown})
    return EXIT_GATE if missing else 0
