"""Station 3: stored; the typed entities of the one table."""
