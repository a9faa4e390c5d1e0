"""Drives one side of a comparison: a worker process, one line of JSON per command and per answer."""

import contextlib
import json
import queue
import subprocess
import tempfile
import threading
from typing import Any

LAST_LINES = 8
GRACE = 3.0
"""Seconds that a worker gets to end by itself."""


class WorkerError(RuntimeError):
    """A side could not do what it was asked for; the message is ready for a table."""


class Client:
    """A worker process.

    Args:
        name: Of the side, for messages.
        command: Program and arguments.
        environment: Its environment variables.

    Raises:
        WorkerError: If it cannot be started.
    """

    def __init__(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment,
                text=True,
                # Ctrl-C reaches this process only, which then ends the workers.
                start_new_session=True,
            )
        except OSError as error:
            self._errors.close()
            raise WorkerError(f"{name}: '{command[0]}' cannot be started: {error.strerror}") from error
        self._answers: queue.Queue[str | None] = queue.Queue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as answers:
            for line in answers:
                self._answers.put(line)
        self._answers.put(None)

    def ask(self, command: str, timeout: float, **arguments: Any) -> dict[str, Any]:
        """Send a command and wait for its answer.

        Args:
            command: One of `worker.COMMANDS`.
            timeout: Longest time to wait (s).
            arguments: What the command takes.

        Returns:
            Its result.

        Raises:
            WorkerError: If the command failed; or if the worker died, took too long or answered something else than a
                line of the protocol, and then it is ended.
        """
        try:
            self._send({"command": command, **arguments})
            line = self._answers.get(timeout=timeout)
        except OSError:
            line = None
        except queue.Empty:
            self.close(grace=0.0)
            raise WorkerError(f"{self.name}: no answer to '{command}' within {timeout:g} s") from None
        if line is None:
            self._process.wait()
            status, words = self._process.returncode, self._last_words()
            self.close()
            raise WorkerError(f"{self.name}: the process ended with status {status} during '{command}'{words}")
        return self._read(line, command)

    def _send(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        if self._process.stdin.closed:
            raise WorkerError(f"{self.name}: the process has ended")
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def _read(self, line: str, command: str) -> dict[str, Any]:
        answer = None
        with contextlib.suppress(json.JSONDecodeError):
            answer = json.loads(line)
        if isinstance(answer, dict) and isinstance(answer.get("result"), dict):
            result: dict[str, Any] = answer["result"]
            return result
        if isinstance(answer, dict) and "error" in answer:
            raise WorkerError(f"{self.name}: {command}: {answer['error']}")
        self.close(grace=0.0)
        raise WorkerError(f"{self.name}: the answer to '{command}' is not of the protocol: {line.strip()[:200]}")

    def _last_words(self) -> str:
        """What the worker wrote to its standard error last."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return ":\n  " + "\n  ".join(lines[-LAST_LINES:]) if lines else ""

    def close(self, grace: float = GRACE) -> None:
        """End the worker.

        Args:
            grace: How long it may take to quit (s) before it is killed.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, WorkerError):
            self._send({"command": "quit"})
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=grace)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join(timeout=GRACE)
        self._errors.close()
