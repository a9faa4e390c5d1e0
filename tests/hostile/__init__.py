"""Bad inputs, each with what the program must say to it; `tests/cli/test_hostile.py` runs them all."""
