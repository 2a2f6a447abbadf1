"""`python -m locheads.report serve RUN_FOLDER`: the explorer with all samples and maps that the run kept.

For this machine only. Nothing of a request's path is used as a file's name: every address is one of a few fixed ones or
a number, so there is no path to climb out of the folder.
"""

import argparse
import re
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from locheads.errors import LocHeadsError, StoreError, complain
from locheads.records.explorer_file import ExplorerFile
from locheads.records.record_base import own_file
from locheads.report.explorer.page import served_page
from locheads.report.run_record import read_run

HOST = "127.0.0.1"
HTML, BYTES, WEBP = "text/html; charset=utf-8", "application/octet-stream", "image/webp"


class Site:
    """What each address answers."""

    def __init__(self, folder: Path) -> None:
        """Raises StoreError where the folder is no run folder, or keeps nothing for the explorer."""
        run = read_run(folder)
        record = ExplorerFile.read_if_there(folder)
        if record is None:
            raise StoreError(
                f"{folder} holds no explorer.json: run it again with explorer.samples above 0 and stage=evaluate or "
                "later."
            )
        self._record: ExplorerFile = record
        self._folder = folder
        self._page = served_page(run, record).encode("utf-8", "replace")

    def answer(self, address: str) -> tuple[str, bytes] | None:
        """-> (media type, content) of a path such as /maps/12; None where there is nothing."""
        if address in ("/", "/explorer.html"):
            return HTML, self._page
        if address == "/favicon.ico":
            return "image/x-icon", b""  # browsers ask for it unasked
        if address == "/report.html":
            return HTML, own_file(self._folder, "report.html").read_bytes()
        match = re.fullmatch(r"/(maps|images)/([0-9]{1,6})", address, re.ASCII)
        if match is None:
            return None
        return self._maps(int(match[2])) if match[1] == "maps" else self._image(int(match[2]))

    def _maps(self, number: int) -> tuple[str, bytes] | None:
        samples = self._record.samples
        return (BYTES, self._record.codes(samples[number])) if number < len(samples) else None

    def _image(self, number: int) -> tuple[str, bytes] | None:
        known = any(sample.image == number for sample in self._record.samples)
        return (WEBP, self._record.image(number)) if known else None


class _Handler(BaseHTTPRequestHandler):
    server_version, sys_version = "LocHeads", ""

    def __init__(self, site: Site, *arguments: object) -> None:
        self._site = site
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        # A foreign page whose name is made to point here would come with its own name.
        if (self.headers.get("Host") or "").rsplit(":", 1)[0] not in (HOST, "localhost"):
            return self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
        try:
            found = self._site.answer(self.path.split("?")[0])
        except (OSError, StoreError):
            found = None
        if found is None:
            return self.send_error(HTTPStatus.NOT_FOUND)
        kind, content = found
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Silent: the terminal keeps showing the address."""


def make_server(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server for this machine only; port 0 takes a free one. Raises StoreError for the folder or the port."""
    site = Site(folder)
    try:
        return ThreadingHTTPServer((HOST, port), partial(_Handler, site))
    except (OSError, OverflowError) as error:
        raise StoreError(f"Port {port} cannot be used ({error}): choose another with --port.") from error


def main(arguments: list[str]) -> int:
    """Serves until Ctrl-C. Returns the exit code."""
    parser = argparse.ArgumentParser("python -m locheads.report serve", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="run folder")
    parser.add_argument("--port", type=int, default=8300, help="0: a free one (default: 8300)")
    options = parser.parse_args(arguments)
    try:
        server = make_server(options.folder, options.port)
    except LocHeadsError as error:
        return complain(error)
    with server:
        print(f"http://{HOST}:{server.server_address[1]}/ (Ctrl-C ends it)", flush=True)
        with suppress(KeyboardInterrupt):
            server.serve_forever()
    return 0
