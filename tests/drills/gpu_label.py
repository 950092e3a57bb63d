"""`fsf` in the form that it has beside GPUs, on nodes whose GPUs are a label: `ray start --num-gpus=1` without one.

Decode, mask and write are tasks, and an actor takes a whole GPU; the model itself runs on the CPU provider.
"""

import sys

from fsf_core.cli import app
from fsf_core.score import plan, spec


def main() -> int:
    """Run the command; returns its exit code."""
    for module in (plan, spec):
        module.GPU_PROVIDERS = (*spec.GPU_PROVIDERS, "cpu")
    return app.main()


if __name__ == "__main__":
    sys.exit(main())
