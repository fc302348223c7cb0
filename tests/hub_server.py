"""
A server on this machine that speaks as much of the Hub's protocol as it takes to create a repository, to commit to it
and to download its files.
"""

import base64
import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest


# The name of each commit.
COMMIT = "1" * 40


class Hub(ThreadingHTTPServer):
    """
    What was done to it: the names of its repositories, those of data sets with `datasets/` in front, each commit's
    files, and all files of each repository.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: list[str] = []
        self.commits: list[dict[str, bytes]] = []
        self.files: dict[str, dict[str, bytes]] = defaultdict(dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *args: object) -> None:
        pass

    def _answer(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @property
    def _repository(self) -> str:
        """The repository of `/api/<kind>/<owner>/<name>/...`."""
        kind, owner, name = self.path.split("?")[0].split("/")[2:5]
        return f"datasets/{owner}/{name}" if kind == "datasets" else f"{owner}/{name}"

    def _list_files(self) -> list[dict]:
        files = self.server.files[self._repository].items()
        return [{"type": "file", "path": path, "size": len(data), "oid": COMMIT} for path, data in files]

    def do_GET(self) -> None:
        if "/resolve/" in self.path:
            self._send_file()
        elif "/commits/" in self.path:
            self._answer(
                [{"id": COMMIT, "title": "", "message": "", "authors": [], "date": "2020-01-01T00:00:00.000Z"}]
            )
        elif "/tree/" in self.path:
            self._answer(self._list_files())
        else:
            siblings = [{"rfilename": file["path"]} for file in self._list_files()]
            self._answer({"id": self._repository.removeprefix("datasets/"), "sha": COMMIT, "siblings": siblings})

    def do_HEAD(self) -> None:
        self._send_file()

    def _send_file(self) -> None:
        """Answers `/<repository>/resolve/<revision>/<path>`."""
        repository, _, rest = self.path.removeprefix("/").partition("/resolve/")
        data = self.server.files[repository].get(rest.partition("/")[2])
        self.send_response(404 if data is None else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        if data is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        else:
            self.send_header("ETag", hashlib.sha256(data).hexdigest())
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        if data is not None and self.command == "GET":
            self.wfile.write(data)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.endswith("/repos/create"):
            request = json.loads(body)
            name = f"{request.get('organization') or 'user'}/{request['name']}"
            if request.get("type") == "dataset":
                name = f"datasets/{name}"
            self.server.repositories.append(name)
            self._answer({"url": f"{self.server.url}/{name}", "name": name})
        elif "/preupload/" in self.path:
            # All files travel within the commit, none by LFS.
            files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
            self._answer({"files": [file | {"shouldIgnore": False} for file in files]})
        elif "/commit/" in self.path:
            lines = [json.loads(line) for line in body.splitlines()]
            files = [line["value"] for line in lines if line["key"] == "file"]
            commit = {file["path"]: base64.b64decode(file["content"]) for file in files}
            self.server.commits.append(commit)
            self.server.files[self._repository] |= commit
            for line in lines:
                if line["key"] == "deletedFile":
                    del self.server.files[self._repository][line["value"]["path"]]
            url = f"{self.server.url}/{self._repository}/commit/{COMMIT}"
            self._answer({"success": True, "commitOid": COMMIT, "commitUrl": url})
        elif "/paths-info/" in self.path:
            paths = parse_qs(body.decode())["paths"]
            self._answer([file for file in self._list_files() if file["path"] in paths])
        else:
            self._answer({})


@contextmanager
def serving_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub that `huggingface_hub` takes for the real one."""
    with Hub() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("transformers.utils.hub._hf_api", None)  # which keeps the address of its first use
        thread = threading.Thread(target=hub.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
