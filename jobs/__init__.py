"""What you submit: each job is one screen under a page of how-to."""
