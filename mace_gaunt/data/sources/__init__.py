"""Files of structures in all their formats, read record by record."""
