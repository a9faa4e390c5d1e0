"""This program and mace-torch side by side: each in a process of its own, both driven by one protocol."""
