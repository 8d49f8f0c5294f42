"""Station 1: requests come in; the access patterns and the recorder."""
