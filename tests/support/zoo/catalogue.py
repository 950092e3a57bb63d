"""Every model of the zoo."""

from tests.support.zoo import deployed, programs, smp, transformers

ENTRIES = (*programs.ENTRIES, *deployed.ENTRIES, *transformers.ENTRIES, *smp.ENTRIES)
