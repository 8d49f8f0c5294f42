"""The demo: a small world of store search, and agents that work in it while the `Recorder` looks on."""
