"""Other programs: their models, and running ours inside them."""
