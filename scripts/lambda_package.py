"""Build the archive of the functions on AWS: `make lambda`, or `python scripts/lambda_package.py --arch x86_64`.

It holds the package, what the handlers import, and botocore with the data of the services they call: the runtime has a
botocore of its own, of a version that nobody chose. Redshift is reached by its Data API, so no driver is in it. Where
the interpreter of the runtime is installed (python3.13), everything is compiled, since without bytecode a cold start
takes several times as long.

It prints the sizes, and exits with 1 when they are above the bounds.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHON = "3.13"  # of the functions in agentmodel/aws/_parts.py
PLATFORMS = {"arm64": "manylinux2014_aarch64", "x86_64": "manylinux2014_x86_64"}
WAREHOUSE = ("sqlalchemy>=2.0.42,<3", "sqlalchemy-redshift>=1.0,<2")
SERVICES = ("dynamodb", "redshift-data", "sts")  # sts: for whoever takes on another role
BOUNDS = {"zipped": 25, "unzipped": 100}  # MiB; Lambda's limits are 50 and 250
_ONE_TIME = (2025, 1, 1, 0, 0, 0)  # of every file, so that equal contents are an equal archive


def needed() -> list[str]:
    """Return what has to be installed beside the package: what it depends on, and what the warehouse needs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *WAREHOUSE]


def options(site: Path, arch: str) -> list[str]:
    """Return the options of pip to install for the runtime into a folder; wheels only, as nothing can be built here."""
    return ["--target", str(site), "--only-binary=:all:", "--platform", PLATFORMS[arch], "--python-version", PYTHON]


def install(site: Path, arch: str) -> None:
    """Install the package and what it needs into a folder."""
    pip = (sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--no-compile")
    if not _run(*pip, *options(site, arch), *needed()):
        raise SystemExit("pip could not install what the functions need")
    copy_package(site)


def copy_package(site: Path) -> None:
    """Copy the package into a folder."""
    shutil.copytree(ROOT / "agentmodel", site / "agentmodel", ignore=shutil.ignore_patterns("__pycache__"))


def prune(site: Path) -> None:
    """Remove what no handler reads: other services' data, scripts, tests, and sources of C."""
    data = site / "botocore" / "data"
    for folder in data.iterdir():
        if folder.is_dir() and folder.name not in SERVICES:
            shutil.rmtree(folder)
    shutil.rmtree(site / "bin", ignore_errors=True)
    for pattern in ("**/tests", "**/test"):
        for folder in list(site.glob(pattern)):
            if folder.is_dir():
                shutil.rmtree(folder)
    for pattern in ("**/*.pyi", "**/*.c", "**/*.pyx", "**/*.pxd", "**/*.h"):
        for file in site.glob(pattern):
            file.unlink()


def compile_all(site: Path, program: str) -> bool:
    """Compile everything by the interpreter of the runtime; return whether that interpreter is here."""
    found = shutil.which(program)
    if found is None or not _run(found, "--version"):
        return False
    return _run(found, "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", str(site))


def _run(*command: str) -> bool:
    return not subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode  # noqa: S603  # ours alone


def archive(site: Path, target: Path) -> dict[str, float]:
    """Write the folder into an archive; return its size, and that of what it holds, in MiB."""
    files = sorted(path for path in site.rglob("*") if path.is_file())
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as written:
        for path in files:
            entry = zipfile.ZipInfo(path.relative_to(site).as_posix(), _ONE_TIME)
            entry.external_attr = 0o644 << 16  # Lambda's user reads them
            written.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    sizes = {"zipped": target.stat().st_size, "unzipped": sum(path.stat().st_size for path in files)}
    return {name: size / 2**20 for name, size in sizes.items()}


def main() -> int:
    """Build, print the sizes, and compare them with the bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", choices=PLATFORMS, default="arm64", help="as the parameter Architecture; arm64")
    parser.add_argument("--to", type=Path, metavar="FILE", help="dist/lambda-ARCH.zip when it is not given")
    given = parser.parse_args()
    target: Path = given.to or ROOT / "dist" / f"lambda-{given.arch}.zip"
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder)
        install(site, given.arch)
        prune(site)
        compiled = compile_all(site, f"python{PYTHON}")
        sizes = archive(site, target)
    print(f"{target}: {sizes['zipped']:.1f} MiB, {sizes['unzipped']:.1f} MiB unzipped")
    if not compiled:
        print(f"python{PYTHON} is not installed, so nothing is compiled: cold starts take several times as long")
    too_large = [f"{name} {sizes[name]:.1f} > {bound}" for name, bound in BOUNDS.items() if sizes[name] > bound]
    if too_large:
        print(f"above the bounds in MiB: {', '.join(too_large)}", file=sys.stderr)
    return int(bool(too_large))


if __name__ == "__main__":
    sys.exit(main())
