"""Import contracts that import-linter does not have itself; `pyproject.toml` uses them."""

from __future__ import annotations

from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, output

__all__ = ["AcyclicContract", "PrivateContract"]


class PrivateContract(Contract):
    """Forbids the import of an underscored module from outside its folder."""

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002  # import-linter's
        """Find the imports that reach into another folder."""
        reaching = [
            (importer, module)
            for module in sorted(graph.modules)
            for folder in [_private_in(module)]
            if folder is not None
            for importer in sorted(graph.find_modules_that_directly_import(module))
            if importer != folder and not importer.startswith(f"{folder}.")
        ]
        return ContractCheck(kept=not reaching, metadata={"found": reaching})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print each forbidden import, and the folder in which the module may be imported."""
        for importer, module in check.metadata["found"]:
            output.print_error(f"{importer} imports {module}, which is private to {_private_in(module)}")


class AcyclicContract(Contract):
    """Forbids two modules that import each other."""

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002  # import-linter's
        """Find pairs of modules that import each other."""
        pairs = [
            (one, other)
            for one in sorted(graph.modules)
            for other in sorted(graph.find_modules_directly_imported_by(one))
            if one < other and one in graph.find_modules_directly_imported_by(other)
        ]
        return ContractCheck(kept=not pairs, metadata={"found": pairs})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print each pair."""
        for one, other in check.metadata["found"]:
            output.print_error(f"{one} and {other} import each other")


def _private_in(module: str) -> str | None:
    """Return the package to which an underscored module, or a module inside one, is private; None for others."""
    parts: list[Any] = module.split(".")
    for place, part in enumerate(parts):
        if part.startswith("_") and not part.startswith("__"):
            return ".".join(parts[:place])
    return None
