"""URLs of stores: as they may be shown, without users, passwords and keys, and as they are read."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

__all__ = ["copy_of", "http_url", "misplaced_at", "readers_url", "without_secrets", "without_user"]


def without_secrets(url: str) -> str:
    """Return a URL with ``***`` in place of its user, password, query values and fragment.

    >>> without_secrets("valkey://app:secret@127.0.0.1:6379/0?password=secret")
    'valkey://***@127.0.0.1:6379/0?password=***'
    >>> without_secrets("duckdb:///history.duckdb"), without_secrets("valkey://app:sec?ret@host")
    ('duckdb:///history.duckdb', 'valkey://***')
    >>> without_secrets("http://127.0.0.1:8000/#secret"), without_secrets("valkey://app:sec#ret@host")
    ('http://127.0.0.1:8000/#***', 'valkey://***')
    """
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    rest, hash_mark, fragment = rest.partition("#")
    place, mark, query = rest.partition("?")
    if "@" in query + fragment:  # a value, or the end of a password that holds a question mark or a hash
        return f"{scheme}{separator}***"
    host = place.rpartition("@")[2]  # a password may hold a slash, so the last @ counts
    pairs = "&".join(f"{pair.partition('=')[0]}=***" for pair in query.split("&")) if query else ""
    return f"{scheme}{separator}{'***@' if '@' in place else ''}{host}{mark}{pairs}{hash_mark and '#***'}"


def without_user(url: str) -> str:
    """Return a URL without its user, password, query and fragment.

    >>> without_user("http://user:secret@127.0.0.1:8000/"), without_user("http://127.0.0.1:8000?key=secret")
    ('http://127.0.0.1:8000/', 'http://127.0.0.1:8000')
    """
    return without_secrets(url).replace("***@", "", 1).partition("#")[0].partition("?")[0]


def http_url(host: str, port: int) -> str:
    """Return the URL of a server that listens on an address.

    >>> http_url("127.0.0.1", 9464), http_url("::1", 9464)
    ('http://127.0.0.1:9464', 'http://[::1]:9464')
    """
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def misplaced_at(url: str) -> bool:
    """Return whether an @ follows the host, as where a password holds a character that ends it.

    >>> misplaced_at("valkey://app:sec/ret@host"), misplaced_at("valkey://app:sec%2Fret@host")
    (True, False)
    """
    parts = urlsplit(url)
    return "@" in parts.path + parts.query + parts.fragment


def copy_of(path: str) -> Path:
    """Return the file that other processes read in place of a DuckDB file that changes.

    >>> copy_of("data/warehouse.duckdb").as_posix()
    'data/warehouse.read.duckdb'
    """
    return Path(path).with_suffix(".read.duckdb")


def readers_url(url: str) -> str:
    """Return the URL by which to read a warehouse: that of the copy for readers where its file has one.

    >>> readers_url("duckdb:///nowhere.duckdb"), readers_url("redshift+data://group/db")
    ('duckdb:///nowhere.duckdb', 'redshift+data://group/db')
    """
    path = url.removeprefix("duckdb:///")
    if path == url or not path or "?" in path or not copy_of(path).is_file():
        return url
    return f"duckdb:///{copy_of(path)}?access_mode=read_only"
