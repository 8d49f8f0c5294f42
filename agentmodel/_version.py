"""Return the version of the installed package."""

from importlib import metadata

__all__ = ["installed_version"]


def installed_version() -> str | None:
    """Return the version of the installed package; None where it runs from its sources and is not installed."""
    try:
        return metadata.version("agentmodel")
    except metadata.PackageNotFoundError:
        return None
