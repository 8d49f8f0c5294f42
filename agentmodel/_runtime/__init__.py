"""How work runs: in the background, across forks, by one process of several, and while a store does not answer."""
