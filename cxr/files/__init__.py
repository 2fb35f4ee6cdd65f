"""How files and folders are read, written and locked."""
