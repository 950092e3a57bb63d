"""`fsf` with separate stages, as beside a GPU, on a machine without one."""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fsf_core.cli import app
from fsf_core.score import plan
from fsf_core.score.spec import PipelineSpec


def with_separate_stages(planned: Callable[..., PipelineSpec]) -> Callable[..., PipelineSpec]:
    """Return `plan.plan_pipeline` with separate stages."""
    return lambda *args, **more: replace(planned(*args, **more), separate_stages=True)


def main() -> int:
    plan_pipeline: Any = with_separate_stages(plan.plan_pipeline)
    plan.plan_pipeline = plan_pipeline
    return app.main()


if __name__ == "__main__":
    sys.exit(main())
