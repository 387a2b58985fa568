"""Model families. A folder with ``entry.py`` is a family; the other folders are rooms that families share."""
