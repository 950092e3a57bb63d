"""Ray on this machine alone: its token, and patches that leave out what only clusters need."""
