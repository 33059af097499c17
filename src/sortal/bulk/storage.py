"""Where bulk prediction reads and writes: folders of this machine, or ``s3://``, ``gs://`` and other URLs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from secrets import token_hex
from typing import IO, Any, Protocol

from sortal.errors import DataError, MissingDependencyError, ResourceError, SortalError
from sortal.training.atomic import atomic_file, discard_folder, is_leftover, write_bytes

# Their writes appear when they are complete, and they have no rename.
_OBJECT_STORES = ("s3", "gcs", "abfs")


class Storage(Protocol):
    """Files under names that are paths or URLs; whatever is written appears at its name complete or not at all."""

    def write(self, name: str, data: bytes) -> None:
        """Write a file, replacing an earlier one; missing folders are made."""

    def read(self, name: str) -> bytes:
        """The bytes of a file."""

    def appearing(self, name: str) -> Any:
        """A context manager of a binary file that becomes ``name`` at its end; one process at a time writes this name."""

    def names(self, folder: str) -> set[str]:
        """The files directly in ``folder``; empty when it does not exist."""

    def files(self, folder: str) -> list[str]:
        """The files anywhere below ``folder``, relative to it, sorted."""

    def is_folder(self, name: str) -> bool:
        """Whether there is a folder of this name."""

    def exists(self, name: str) -> bool:
        """Whether there is anything of this name."""

    def delete(self, name: str) -> None:
        """Remove a file, or a folder with all it holds; one that is not there is none."""


class LocalStorage:
    """Paths of this machine, or of a disk that all machines of a cluster share."""

    def write(self, name: str, data: bytes) -> None:
        """See `Storage.write`."""
        write_bytes(name, data)

    def read(self, name: str) -> bytes:
        """See `Storage.read`."""
        return Path(name).read_bytes()

    @contextmanager
    def appearing(self, name: str) -> Iterator[IO[bytes]]:
        """See `Storage.appearing`."""
        path = Path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResourceError(
                f"{path.parent} cannot be made: {error.strerror}", "choose another --out"
            ) from error
        for entry in path.parent.iterdir():  # what a killed process left of the same file
            if is_leftover(entry.name) and entry.name.startswith(f".{path.name}.tmp-"):
                entry.unlink(missing_ok=True)
        with atomic_file(path) as part, part.open("wb") as file:
            yield file

    def names(self, folder: str) -> set[str]:
        """See `Storage.names`."""
        path = Path(folder)
        return {entry.name for entry in path.iterdir()} if path.is_dir() else set()

    def files(self, folder: str) -> list[str]:
        """See `Storage.files`."""
        root = Path(folder)
        return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())

    def is_folder(self, name: str) -> bool:
        """See `Storage.is_folder`."""
        return Path(name).is_dir()

    def exists(self, name: str) -> bool:
        """See `Storage.exists`."""
        return Path(name).exists()

    def delete(self, name: str) -> None:
        """See `Storage.delete`."""
        path = Path(name)
        if path.is_dir():
            discard_folder(path)
        else:
            path.unlink(missing_ok=True)


class UrlStorage:
    """URLs, through Arrow's own clients (S3, GCS, HDFS, Azure, file) or else fsspec's; credentials are found as those find them.

    Every failure of the network or of a permission is a `ResourceError`.
    """

    def write(self, name: str, data: bytes) -> None:
        """See `Storage.write`."""
        with self.appearing(name) as file:
            file.write(data)

    def read(self, name: str) -> bytes:
        """See `Storage.read`."""
        with _reachable(name), self.open(name) as stream:
            data: bytes = stream.read()
            return data

    def open(self, name: str) -> Any:
        """A stream of the bytes as they are stored."""
        system, path = resolve(name)
        return system.open_input_stream(path, compression=None)

    @contextmanager
    def appearing(self, name: str) -> Iterator[IO[bytes]]:
        """See `Storage.appearing`."""
        with _reachable(name):
            system, path = resolve(name)
            direct = system.type_name in _OBJECT_STORES
            part = path if direct else f"{path}.part-{token_hex(4)}"
            if not direct:
                system.create_dir(path.rpartition("/")[0], recursive=True)
            file = system.open_output_stream(part, compression=None)
            try:
                yield file
                file.close()
            except BaseException:
                # Closing is what makes an object appear, and it cannot be avoided: what is incomplete goes again.
                with suppress(OSError):
                    file.close()
                with suppress(OSError):
                    system.delete_file(part)
                raise
            if not direct:
                system.move(part, path)

    def names(self, folder: str) -> set[str]:
        """See `Storage.names`."""
        return {name for name in self.files(folder) if "/" not in name}

    def files(self, folder: str) -> list[str]:
        """See `Storage.files`."""
        import pyarrow.fs as fs

        with _reachable(folder):
            system, path = resolve(folder)
            found = system.get_file_info(fs.FileSelector(path, allow_not_found=True, recursive=True))
        root = path.rstrip("/") + "/"
        return sorted(info.path.removeprefix(root) for info in found if info.type == fs.FileType.File)

    def is_folder(self, name: str) -> bool:
        """See `Storage.is_folder`."""
        return self._type(name) == "Directory"

    def exists(self, name: str) -> bool:
        """See `Storage.exists`."""
        return self._type(name) != "NotFound"

    def _type(self, name: str) -> str:
        with _reachable(name):
            system, path = resolve(name)
            return str(system.get_file_info([path.rstrip("/")])[0].type.name)

    def delete(self, name: str) -> None:
        """See `Storage.delete`."""
        with _reachable(name), suppress(FileNotFoundError):
            system, path = resolve(name)
            if self.is_folder(name):
                system.delete_dir(path)
            else:
                system.delete_file(path)


def is_url(name: str) -> bool:
    """Whether ``name`` is written as a URL."""
    return "://" in name


def storage(name: str) -> Storage:
    """The storage of a path or URL."""
    return UrlStorage() if is_url(name) else LocalStorage()


def join(folder: str, name: str) -> str:
    """A name in a folder; both may have slashes."""
    return f"{folder.rstrip('/')}/{name}" if is_url(folder) else str(Path(folder) / name)


def resolve(url: str) -> tuple[Any, str]:
    """The Arrow file system of a URL, and the path in it.

    Raises:
        DataError: not a URL that Arrow or fsspec know. MissingDependencyError: fsspec needs a package for it.
    """
    scheme, _, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    system, root = _system(scheme, place)
    return system, f"{root.rstrip('/')}{slash}{path}"


@cache
def _system(scheme: str, place: str) -> tuple[Any, str]:
    import pyarrow as pa
    import pyarrow.fs as fs

    url = f"{scheme}://{place}" + ("" if place else "/")
    try:
        found: tuple[Any, str] = fs.FileSystem.from_uri(url)
        return found
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass  # a scheme that Arrow has no client for
    import fsspec

    try:
        system, path = fsspec.url_to_fs(url)
    except ImportError as error:
        raise MissingDependencyError(f"{url} cannot be reached: {error}", "install that package") from None
    except ValueError as error:
        raise DataError(f"{url} is no place that can be read: {error}", "check the URL") from None
    return fs.PyFileSystem(fs.FSSpecHandler(system)), str(path)


@contextmanager
def local_copy(source: str) -> Iterator[Path | str]:
    """``source`` as the readers take it: a URL is copied into a temporary folder, under its own file name.

    Raises:
        ResourceError: the URL cannot be read, or the temporary folder has no room.
    """
    if not is_url(source):
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="sortal-") as folder:
        copy = Path(folder) / source.rpartition("/")[2]
        with _reachable(source), UrlStorage().open(source) as stream, copy.open("wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)
        try:
            yield copy
        except SortalError as error:
            raise type(error)(error.what.replace(str(copy), source), error.fix) from None


@contextmanager
def _reachable(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{name} does not exist", "check the URL") from None
    except OSError as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ResourceError(
            f"{name} cannot be reached: {reason}", "check the URL, the network and the credentials"
        ) from error
