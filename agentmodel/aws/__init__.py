"""Entry points for AWS."""
