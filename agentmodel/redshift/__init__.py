"""Learn from the history in a warehouse: Redshift in production, DuckDB on a laptop."""
