"""A local Ray with the options that the job gives Ray Data, for simulations of it."""

import logging
import os
from typing import Any

import ray

from fsf_core.score import pipeline


def start(*, cpus: int, object_store_bytes: int, **more: Any) -> ray.data.DataContext:
    """Start Ray on this machine; returns the options of Ray Data, to be changed.

    Args:
        cpus: logical CPUs.
        object_store_bytes: memory of the object store.
        more: arguments of `ray.init`.
    """
    os.environ["RAY_AUTH_MODE"] = "disabled"
    ray.init(
        address="local", num_cpus=cpus, include_dashboard=False, logging_level="ERROR", log_to_driver=False,
        object_store_memory=object_store_bytes, **more,
    )  # fmt: skip
    for name in ("ray.data", "ray"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = pipeline.TARGET_BLOCK_BYTES
    return context
