"""Every model of the zoo."""

from tests.support.zoo import deployed, programs, smp, torchvision, transformers

ENTRIES = (*programs.ENTRIES, *deployed.ENTRIES, *transformers.ENTRIES, *smp.ENTRIES, *torchvision.ENTRIES)
