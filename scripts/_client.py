"""Talk to a running ComfyUI over HTTP: queue a prompt, wait for it, fetch what it made."""

import json
import mimetypes
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path
from typing import Any

from ._console import HouseError

Prompt = dict[str, dict[str, Any]]
POLL_SECONDS = 0.2

# A proxy meant for the internet must not see requests to this machine.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class PromptError(HouseError):
    """The server refused the prompt, or a node failed or was interrupted while it ran."""


class ComfyClient:
    """The HTTP interface of one ComfyUI at `url`."""

    def __init__(self, url: str):
        self.url = url.rstrip("/")

    def object_info(self) -> dict[str, dict]:
        """Every node the server offers, as the editor sees it."""
        return self._json("/object_info", timeout=60)

    def queue(self, prompt: Prompt) -> str:
        """Queue an API prompt and return its id. Raises PromptError with every node's complaint if it is invalid,
        also if only some of its outputs are: the server leaves those out without a word and runs the others."""
        try:
            answer = self._json("/prompt", {"prompt": prompt, "client_id": uuid.uuid4().hex})
        except urllib.error.HTTPError as error:
            raise PromptError(_describe_refusal(error, prompt)) from None
        if answer.get("node_errors"):
            problems = "\n".join(_complaints(answer["node_errors"], prompt))
            raise PromptError(f"the server leaves out some outputs of the prompt:\n{problems}")
        return answer["prompt_id"]

    def wait(self, prompt_id: str, timeout: float = 600) -> dict:
        """The history entry of a prompt once it has finished. Raises PromptError if it failed."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            self.check_alive()
            entry = self._json(f"/history/{prompt_id}").get(prompt_id)
            if entry:
                _raise_for_failure(entry)
                return entry
            time.sleep(POLL_SECONDS)
        raise TimeoutError(f"prompt {prompt_id} has not finished within {timeout:.0f} s")

    def run(self, prompt: Prompt, timeout: float = 600) -> dict:
        return self.wait(self.queue(prompt), timeout)

    def prompt_ids(self) -> list[str]:
        """Every prompt the server knows of: finished, running and waiting."""
        queue = self._json("/queue")
        waiting = [entry[1] for kind in ("queue_running", "queue_pending") for entry in queue[kind]]
        return [*self._json("/history"), *waiting]

    def change_setting(self, name: str, value: Any) -> None:
        """Change a setting of the editor, as its settings dialog does. Open tabs do not notice."""
        self._request(f"/settings/{name}", json.dumps(value).encode(), {"Content-Type": "application/json"})

    def interrupt(self) -> None:
        self._request("/interrupt", b"")

    def upload_image(self, path: Path | str) -> str:
        """Put an image (or video) into the server's input folder; return the name that LoadImage takes."""
        path = Path(path)
        boundary = uuid.uuid4().hex
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        body = b"".join(
            [
                f'--{boundary}\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue\r\n'.encode(),
                f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{path.name}"\r\n'.encode(),
                f"Content-Type: {kind}\r\n\r\n".encode() + path.read_bytes(),
                f"\r\n--{boundary}--\r\n".encode(),
            ]
        )
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return json.loads(self._request("/upload/image", body, headers))["name"]

    def download(self, output: dict, path: Path | str) -> Path:
        """Save one file of a history entry (`{"filename", "subfolder", "type"}`) under `path`."""
        query = urllib.parse.urlencode({key: output[key] for key in ("filename", "subfolder", "type")})
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self._request(f"/view?{query}"))
        return path

    def check_alive(self) -> None:
        """Raise if the server is known to be gone. A bare client cannot know."""

    def _json(self, path: str, payload: Any = None, timeout: float = 30) -> Any:
        body = None if payload is None else json.dumps(payload).encode()
        return json.loads(self._request(path, body, {"Content-Type": "application/json"}, timeout))

    def _request(
        self, path: str, body: bytes | None = None, headers: dict[str, str] | None = None, timeout: float = 30
    ) -> bytes:
        """GET, or POST if there is a body."""
        request = urllib.request.Request(self.url + path, body, headers or {})
        with _OPENER.open(request, timeout=timeout) as response:
            return response.read()


def _describe_refusal(error: urllib.error.HTTPError, prompt: Prompt) -> str:
    text = error.read().decode(errors="replace")
    try:
        answer = json.loads(text)
    except json.JSONDecodeError:
        return f"the server answered {error.code} to the prompt: {text[:500]}"
    reason = answer["error"]
    summary = f"the server refused the prompt: {reason['message']} {reason.get('details', '')}".rstrip()
    return "\n".join([summary, *_complaints(answer.get("node_errors") or {}, prompt)])


def _complaints(node_errors: dict, prompt: Prompt) -> list[str]:
    return [
        f"  {_name(node_id, prompt.get(node_id, {}))}: {reason['message']}: {reason['details']}"
        for node_id, problem in node_errors.items()
        for reason in problem["errors"]
    ]


def _raise_for_failure(entry: dict) -> None:
    """History keeps the events of a run; the one that ended it says which node failed and why."""
    events = dict(entry.get("status", {}).get("messages", []))
    if "execution_error" in events:
        failure = events["execution_error"]
        trace = "".join(failure["traceback"]).rstrip()
        raise PromptError(
            f"node {failure['node_id']} ({failure['node_type']}) failed: "
            f"{failure['exception_type']}: {failure['exception_message'].rstrip()}\n{trace}"
        )
    if "execution_interrupted" in events:
        stopped = events["execution_interrupted"]
        raise PromptError(f"the run was interrupted at node {stopped['node_id']} ({stopped['node_type']})")


def _name(node_id: str, node: dict) -> str:
    title = node.get("_meta", {}).get("title")
    described = f"node {node_id} ({node.get('class_type', 'unknown')}"
    return f'{described}, "{title}")' if title else f"{described})"
