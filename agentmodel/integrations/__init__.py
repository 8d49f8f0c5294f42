"""Integrations with agent frameworks: a package for each framework, which needs the extra of the same name."""
