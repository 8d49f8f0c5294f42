"""Where an export is written: a folder, or a prefix of a bucket of S3. A file there is whole, or not there at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from agentmodel.config import Settings
from agentmodel.exceptions import ConfigurationError, Unavailable, ValidationError

__all__ = ["ExportTarget", "target_of"]


class ExportTarget(Protocol):
    """A place for files with names such as ``calls/month=2026-03/part-0000.parquet``."""

    def read(self, name: str) -> bytes | None:
        """Return a file; None where there is none."""

    def write(self, name: str, source: Path) -> None:
        """Put a file there, in the place of one of the same name."""

    def names(self, under: str) -> list[str]:
        """Return the names of all files in a folder, whose name ends with a slash."""
        ...

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; those that are not there are passed over."""


def target_of(to: str | Path, settings: Settings) -> ExportTarget:
    """Return the target that a folder or an URL ``s3://bucket/prefix`` names.

    Raises:
        ValidationError: It is neither.
    """
    text = str(to)
    if not text.startswith("s3:"):
        if "://" in text or not text:
            raise ValidationError("to", text, "must be a folder, or a URL such as s3://bucket/prefix")
        return _Folder(Path(to))
    bucket, _, prefix = text.removeprefix("s3://").partition("/")
    if not text.startswith("s3://") or not bucket or any(each in text for each in "?#*"):
        raise ValidationError("to", text, "must be a folder, or a URL such as s3://bucket/prefix")
    return _Bucket(bucket, prefix.strip("/"), settings)


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, name: str) -> bytes | None:
        with self._told():
            file = self._root / name
            return file.read_bytes() if file.is_file() else None

    def write(self, name: str, source: Path) -> None:
        with self._told():
            file = self._root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            unfinished = file.with_name(f".{file.name}.unfinished")  # which readers of Parquet pass over
            shutil.copyfile(source, unfinished)
            with unfinished.open("rb+") as written:
                os.fsync(written.fileno())
            unfinished.replace(file)

    def names(self, under: str) -> list[str]:
        with self._told():
            found = (file for file in (self._root / under).rglob("*") if file.is_file())
            return sorted(file.relative_to(self._root).as_posix() for file in found)

    def remove(self, names: Iterable[str]) -> None:
        with self._told():
            for name in names:
                file = self._root / name
                file.unlink(missing_ok=True)
                if file.parent != self._root and file.parent.is_dir() and not any(file.parent.iterdir()):
                    file.parent.rmdir()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigurationError(
                f"the export cannot use the folder {self._root} ({error.strerror or error}: {error.filename}): give "
                "one that can be written, with room"
            ) from error


class _Bucket:
    def __init__(self, bucket: str, prefix: str, settings: Settings) -> None:
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        self._settings = settings
        self._made: Any = None

    @property
    def _client(self) -> Any:
        if self._made is None:
            secret = self._settings.secret_access_key
            self._made = Session().create_client(
                "s3",
                region_name=self._settings.region,
                aws_access_key_id=self._settings.access_key_id,
                aws_secret_access_key=None if secret is None else secret.get_secret_value(),
            )
        return self._made

    def read(self, name: str) -> bytes | None:
        with self._told():
            try:
                body: bytes = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)["Body"].read()
            except ClientError as error:
                if error.response["Error"]["Code"] == "NoSuchKey":
                    return None
                raise
            return body

    def write(self, name: str, source: Path) -> None:
        with self._told(), source.open("rb") as body:
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=body)

    def names(self, under: str) -> list[str]:
        with self._told():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + under
            )
            keys = (each["Key"] for page in pages for each in page.get("Contents", ()))
            return sorted(key.removeprefix(self._prefix) for key in keys)

    def remove(self, names: Iterable[str]) -> None:
        with self._told():
            for name in names:
                self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)

    @contextmanager
    def _told(self) -> Iterator[None]:
        where = f"s3://{self._bucket}/{self._prefix}"
        try:
            yield
        except ClientError as error:
            told, status = error.response.get("Error", {}), error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status >= 500 or status == 429:
                raise Unavailable(
                    f"S3 does not take the export to {where} now ({told.get('Code')}): try again"
                ) from error
            raise ConfigurationError(
                f"S3 rejects the export to {where} ({told.get('Code')}: {told.get('Message')}): see that the bucket "
                "exists, and that s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket are allowed"
            ) from error
        except BotoCoreError as error:
            raise Unavailable(f"S3 does not answer for the export to {where} ({error}): try again") from error
