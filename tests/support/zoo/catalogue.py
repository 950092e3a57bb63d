"""Every model of the zoo."""

from tests.support.zoo import deployed, optimum, programs, smp, torchvision, transformers

ENTRIES = (
    *programs.ENTRIES,
    *deployed.ENTRIES,
    *transformers.ENTRIES,
    *optimum.ENTRIES,
    *smp.ENTRIES,
    *torchvision.ENTRIES,
)
