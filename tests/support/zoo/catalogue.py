"""Every model of the zoo."""

from tests.support.zoo import programs

ENTRIES = (*programs.ENTRIES,)
