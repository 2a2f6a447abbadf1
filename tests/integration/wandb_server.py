"""Stand-ins for a W&B server that does not do its work, on this machine only."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BUCKET = {
    "id": "x",
    "name": "abc",
    "displayName": "abc",
    "config": "{}",
    "historyLineCount": 0,
    "project": {"id": "p", "name": "p", "entity": {"id": "e", "name": "e"}},
}
"""What the server says of a run that it has just made."""


@contextmanager
def server(behaviour: str) -> Iterator[tuple[str, list[str]]]:
    """(URL, what was asked). "error": HTTP 500; "hang": never answers; "error late", "hang late": after the run is
    made, which needs two proper answers."""
    asked: list[str] = []
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode("utf-8", "replace")
            asked.append(f"{self.path} {body}")
            answer = _answer(body) if behaviour.endswith("late") else None
            if answer is None and behaviour.startswith("hang"):
                over.wait(120)
                return
            content = json.dumps(answer or {}).encode()
            self.send_response(500 if answer is None else 200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST

        def log_message(self, *_: Any) -> None:
            pass

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.daemon_threads = True
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{served.server_port}", asked
    finally:
        over.set()
        served.shutdown()
        served.server_close()


def free_port() -> int:
    """A port on which nobody listens."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as passing:
        return passing.server_port


def _answer(body: str) -> dict[str, Any] | None:
    if "RunResumeStatus" in body:
        return {"data": {"model": None}}
    if "mutation UpsertBucket" in body:
        return {"data": {"upsertBucket": {"bucket": BUCKET, "inserted": True}}}
    return None
