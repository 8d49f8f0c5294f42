"""Near: Valkey holds what is asked often, and keeps what is written until it is in the table.

Nothing here knows an entity or the table: values are plain item maps, the table is a sink that is handed in.
"""
