"""Station 1: read history by the eight access patterns, and record it."""
