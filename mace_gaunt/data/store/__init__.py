"""The project's own store of frames: sharded, checked, with neighbour lists (docs/data.md)."""
