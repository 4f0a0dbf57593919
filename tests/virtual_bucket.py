"""A bucket of s3 on loopback whose objects are made when they are asked for: there may be many."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit

from manifests.layout import RECIPE
from manifests.shard_set import ShardSet
from manifests.storage.errors import StoreError
from tests.object_store import s3_clients_of


@dataclass
class VirtualBucket:
    """The bucket `sets`, which can be read and listed."""

    folders: Mapping[str, Sequence[str]]
    """The names of the objects in each folder, sorted; all others are empty."""
    read: Callable[[str], bytes | None]
    """The object of a key, or None."""
    page_names: int = 1000
    """Names that an answer to a listing has at most."""
    requests: list[str] = field(default_factory=list)
    """All that came, such as `GET set/recipe.json`, and `LIST set/manifests/` for each page."""
    refused: frozenset[int] = frozenset()
    """Numbers of requests, from 1, that are refused as a busy server does it."""

    def page(self, folder: str, after: str) -> tuple[Sequence[str], bool]:
        """The names of a folder after one of them, and whether there are more."""
        names = self.folders.get(folder, ())
        start = bisect_right(names, after)
        end = start + self.page_names
        return names[start:end], end < len(names)


class _Handler(BaseHTTPRequestHandler):
    bucket: VirtualBucket
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits for 40 ms

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        key = unquote(url.path).removeprefix("/sets").removeprefix("/")
        is_listing = "list-type" in query
        what = f"LIST {query['prefix'][0]}" if is_listing else f"{self.command} {key}"
        self.bucket.requests.append(what)
        if len(self.bucket.requests) in self.bucket.refused:
            return self._send(503, b"<Error><Code>SlowDown</Code></Error>")
        if is_listing:
            return self._list(query["prefix"][0], query.get("continuation-token", [""])[0])
        content = self.bucket.read(key)
        if content is None:
            return self._send(404, b"<Error><Code>NoSuchKey</Code></Error>")
        stated = self.headers.get("Range")
        if stated is None:
            return self._send(200, content)
        first, last = map(int, stated.removeprefix("bytes=").split("-"))
        part = content[first : last + 1]
        place = f"bytes {first}-{first + len(part) - 1}/{len(content)}"
        self._send(206, part, **{"Content-Range": place})

    do_HEAD = do_GET  # noqa: N815

    def _list(self, prefix: str, after: str) -> None:
        names, has_more = self.bucket.page(prefix.rstrip("/"), after)
        more = f"<NextContinuationToken>{names[-1]}</NextContinuationToken>" if has_more else ""
        contents = "".join(
            f"<Contents><Key>{prefix}{name}</Key><LastModified>2026-01-01T00:00:00.000Z"
            f"</LastModified><Size>1</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for name in names
        )
        text = (
            f"<ListBucketResult><IsTruncated>{str(has_more).lower()}</IsTruncated>{more}{contents}"
            "</ListBucketResult>"
        )
        self._send(200, text.encode())

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response_only(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


LARGE_SET = "large/set"
"""Key of the set that `bucket_of_many` gives, in the bucket `sets`."""


def bucket_of_many(first: ShardSet, *, num_shards: int, num_given_up: int) -> VirtualBucket:
    """A set of many shards, all like the first of another one; the last of them were given up.

    Args:
        first: In a folder, with one subject in a shard.
    """
    recipe = replace(first.recipe, identity=replace(first.recipe.identity, num_subjects=num_shards))
    layout = recipe.identity.layout
    manifest = replace(first.manifest(0), recipe_sha256=recipe.sha256)
    stats = first.store.read(first.layout.stats(0))

    def read(key: str) -> bytes | None:
        path = key.removeprefix(f"{LARGE_SET}/")
        number = layout.number(path)
        if path == RECIPE:
            return recipe.to_bytes()
        if number is not None and path == layout.manifest(number):
            return replace(manifest, shard=number).to_bytes()
        if number is not None and path == layout.stats(number):
            return stats
        if number is not None and path == layout.failed(number, 0):
            return b'{"shard": 0, "errors": ["it was dark"]}'
        try:
            return first.store.read(path)
        except (FileNotFoundError, StoreError):
            return None

    num_made = num_shards - num_given_up
    paths = [layout.manifest(shard) for shard in range(num_made)]
    paths += [layout.failed(shard, 0) for shard in range(num_made, num_shards)]
    folders: dict[str, list[str]] = {
        f"{LARGE_SET}/subjects": [path.rpartition("/")[2] for path in layout.subject_files()]
    }
    for path in paths:
        folder, _, name = path.rpartition("/")
        folders.setdefault(f"{LARGE_SET}/{folder}", []).append(name)
    return VirtualBucket(folders, read)


@contextmanager
def virtual_bucket(bucket: VirtualBucket) -> Iterator[VirtualBucket]:
    """All S3 clients of this process, and of those that it starts, go to this bucket."""
    handler = type("Handler", (_Handler,), {"bucket": bucket})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            with s3_clients_of(f"http://127.0.0.1:{server.server_port}"):
                yield bucket
        finally:
            server.shutdown()
