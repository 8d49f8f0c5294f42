"""Cache what is read often in Valkey, and keep what is written there until it is in the table.

This package knows neither the entities nor the table. It stores plain item maps and writes to a sink that it is given.
"""
