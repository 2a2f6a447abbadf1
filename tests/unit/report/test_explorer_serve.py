"""The explorer's server: this machine only, and no way out of the run folder."""

import http.client
import threading
from contextlib import closing

import pytest

from explorer_files import build_explorer
from locheads.records.explorer_file import ExplorerFile
from locheads.report.__main__ import main
from locheads.report.explorer.serve import make_server


@pytest.fixture(scope="module")
def folder(build, tmp_path_factory):
    root = tmp_path_factory.mktemp("served")
    (root / "secret.txt").write_text("secret")
    folder = build_explorer(build(root / "run"))
    (folder / "report.html").write_text("<p>the report</p>")
    return folder


@pytest.fixture(scope="module")
def server(folder):
    with make_server(folder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def get(server):
    def ask(path, host="127.0.0.1", method="GET"):
        with closing(http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)) as connection:
            connection.putrequest(method, path, skip_host=True)
            connection.putheader("Host", f"{host}:{server.server_address[1]}")
            connection.endheaders()
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    return ask


def test_listens_on_this_machine_only(server):
    assert server.server_address[0] == "127.0.0.1"


def test_page_maps_and_images(get, folder):
    record = ExplorerFile.read(folder)
    status, headers, page = get("/")
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    assert b'"served":true' in page and b"text/plain" not in page
    assert b"connect-src &#39;self&#39;" in page
    for number, sample in enumerate(record.samples):
        assert get(f"/maps/{number}")[2] == record.maps(sample).tobytes()
    assert get("/images/2")[1]["Content-Type"] == "image/webp"
    assert get("/report.html")[2] == b"<p>the report</p>"


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt", "/maps/../../secret.txt", "/%2e%2e/secret.txt", "/images/..%2f..%2fsecret.txt",
        "//etc/passwd", "/maps/-1", "/maps/6", "/maps/999999", "/maps/9999999", "/maps/1.5",
        "/images/6", "/explorer.json", "/config.yaml", "/maps/", "file:///etc/passwd",
    ],
)  # fmt: skip
def test_nothing_else_is_there(get, path):
    assert get(path)[0] == 404


def test_a_foreign_name_is_refused(get):
    assert get("/", host="evil.example")[0] == 421
    assert get("/", host="localhost")[0] == 200


def test_it_only_reads(get):
    for method in ("POST", "PUT", "DELETE"):
        assert get("/", method=method)[0] == 501


def test_command_line_says_what_is_wrong(server, folder, run_folder, tmp_path, capsys):
    assert main(["serve", str(tmp_path / "absent")]) == 1
    assert "is not a folder" in capsys.readouterr().err
    assert main(["serve", str(run_folder)]) == 1
    assert "holds no explorer.json: run it again with explorer.samples above 0" in capsys.readouterr().err
    assert main(["serve", str(folder), "--port", str(server.server_address[1])]) == 1
    assert "choose another with --port" in capsys.readouterr().err
