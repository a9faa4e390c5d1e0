"""Several trainings beside each other: what they reach, at what cost."""
