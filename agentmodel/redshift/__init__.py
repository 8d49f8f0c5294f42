"""The fourth station: what the history teaches, learnt in Redshift, or in DuckDB on a laptop."""
