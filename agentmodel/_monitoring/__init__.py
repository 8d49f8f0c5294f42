"""What operators watch: the list of metrics, and the probes of the long-running parts."""
