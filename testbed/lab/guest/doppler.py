#!/usr/bin/python3 -ISE
# ruff: noqa: PTH100, PTH103, PTH105, PTH108, PTH118, PTH123, S606 -- pathlib would double the start time
"""A stand-in for the Doppler CLI on a lab host: `run` and `secrets download`, as measured on v3.76.

It speaks plain http only, and its fallback file is scrambled, not encrypted. What else a deploy can see is
meant to be as with the real one: exit codes, signals, descriptors, retries, what it needs to start.
"""

import contextlib
import hashlib
import json
import os
import signal
import socket
import sys
import time

VERSION = "v3.76.0"
API_FILE = "/etc/doppler-lab-api"
# Sleeps between five attempts: 21 s in all (decision 11).
BACKOFF_SECONDS = (1.4, 2.8, 5.6, 11.2)
TIMEOUT_SECONDS = 10
VALUED = {
    "--project": "project",
    "-p": "project",
    "--config": "config",
    "-c": "config",
    "--token": "token",
    "-t": "token",
    "--config-dir": "config_dir",
    "--fallback": "fallback",
    "--attempts": "attempts",
    "--api-host": "api_host",
    "--format": "format",
    "--command": "command",
}
FLAGS = {"--no-fallback", "--silent", "--no-file", "--version", "-v", "--no-check-version", "--preserve-env"}
# The real one never lets a secret replace these.
KEPT = ("PATH", "PS1", "HOME")
FORWARDED = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}


class DopplerError(Exception):
    """What ends the run with exit code 1."""

    def __init__(self, reason, context=""):
        super().__init__(reason)
        self.context = context


class UnreachableError(Exception):
    """The API gave no answer that counts."""


def main(arguments):
    """Do what the command line says and return the exit code."""
    # Python ignores SIGPIPE and turns SIGINT into an exception; the real one does neither, nor may its child.
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    try:
        words, options, command = parse(arguments)
        if "--version" in options or "-v" in options:
            sys.stdout.write(f"{VERSION}\n")
        elif words == ["run"]:
            return run(options, command)
        elif words == ["secrets", "download"]:
            return download(options)
        else:
            raise DopplerError(f'unknown command "{" ".join(words)}" for "doppler"')
    except DopplerError as failure:
        if failure.context:
            sys.stderr.write(f"{failure.context}\n")
        sys.stderr.write(f"Doppler Error: {failure}\n")
        return 1
    return 0


def parse(arguments):
    """Words, options and the command behind `--`."""
    words, options = [], {}
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if argument == "--":
            break
        if name in VALUED:
            if not equals:
                value = next(rest, None)
            if value is None:
                raise DopplerError(f"flag needs an argument: {name}")
            options[VALUED[name]] = value
        elif name in FLAGS:
            options[name] = value != "false"
        elif name.startswith("-"):
            raise DopplerError(f"unknown flag: {name}")
        elif words == ["run"]:
            return words, options, [argument, *rest]
        else:
            words.append(argument)
    return words, options, list(rest)


def run(options, command):
    """Fetch the secrets and be the parent of the command."""
    if "command" in options:
        command = ["sh", "-c", options["command"]]
    if not command:
        raise DopplerError("requires at least 1 arg(s), only received 0")
    secrets = fetch(options)
    environment = dict(os.environ)
    for name, value in secrets.items():
        if name in KEPT or ("--preserve-env" in options and name in environment):
            continue
        environment[name] = value
    return parent(command, environment)


def download(options):
    """Write the secrets to stdout."""
    if "--no-file" not in options:
        raise DopplerError("the stand-in downloads to stdout only: add --no-file")
    secrets = fetch(options)
    if options.get("format", "json") == "env":
        sys.stdout.write("".join(f"{name}={json.dumps(value)}\n" for name, value in secrets.items()))
    else:
        sys.stdout.write(json.dumps(secrets) + "\n")
    return 0


def fetch(options):
    """The secrets: from the API, or from the fallback file when the API gives no answer."""
    folder = config_folder(options)
    if not os.access(".", os.R_OK | os.X_OK):
        raise DopplerError("open .: permission denied", "Unable to read the current directory")
    token = options.get("token") or os.environ.get("DOPPLER_TOKEN")
    if not token:
        raise DopplerError("you must provide a token")
    fallback = None if "--no-fallback" in options else fallback_path(options, folder, token)
    saved = read_fallback(fallback, token) if fallback else None
    trouble = "Unable to fetch secrets from the Doppler API"
    try:
        status, etag, body = ask(options, token, saved["etag"] if saved else None)
    except UnreachableError as error:
        if saved is None:
            raise DopplerError(str(error), trouble) from None
        if "--silent" not in options:
            sys.stderr.write(f"{trouble}\nReading secrets from fallback file\n")
        return saved["secrets"]
    if status == 304 and saved:
        return saved["secrets"]
    if status != 200:
        if status in (401, 403) and fallback:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fallback)
        raise DopplerError("\n".join(json.loads(body).get("messages", [])) or f"HTTP {status}", trouble)
    secrets = json.loads(body)
    if fallback:
        write_fallback(fallback, token, {"etag": etag, "secrets": secrets})
    return secrets


def config_folder(options):
    """The config folder, made if it is not there."""
    folder = options.get("config_dir") or os.environ.get("DOPPLER_CONFIG_DIR")
    if not folder:
        if not os.environ.get("HOME"):
            raise DopplerError("$HOME is not defined", "Unable to determine home directory")
        folder = os.path.join(os.environ["HOME"], ".doppler")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError as error:
        raise DopplerError(f"mkdir {folder}: {reason(error)}", "Unable to create config directory") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DopplerError(f"open {folder}/.doppler.yaml: permission denied", "Unable to write config file")
    return folder


def fallback_path(options, folder, token):
    """Where the fallback file of this token, project and config is."""
    if options.get("fallback"):
        return os.path.abspath(options["fallback"])
    key = ":".join((token, options.get("project", ""), options.get("config", "")))
    folder = os.path.join(folder, "fallback")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return os.path.join(folder, f".{hashlib.sha256(key.encode()).hexdigest()}.json")


def read_fallback(path, token):
    """What the fallback file holds, or None."""
    try:
        with open(path, "rb") as file:
            return json.loads(scramble(file.read(), token))
    except (OSError, ValueError):
        return None


def write_fallback(path, token, content):
    """Replace the fallback file, readable by its owner alone."""
    part = f"{path}.{os.getpid()}"
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(scramble(json.dumps(content).encode(), token))
        os.replace(part, path)
    except OSError as error:
        raise DopplerError(f"open {path}: {reason(error)}", "Unable to write fallback file") from None


def reason(error):
    """What the system says, as Go writes it."""
    return (error.strerror or str(error)).lower()


def scramble(data, token):
    """XOR with a stream made from the token, its own inverse: no secret stands readable in the file."""
    stream = hashlib.shake_256(token.encode()).digest(len(data))
    return bytes(a ^ b for a, b in zip(data, stream, strict=True))


def ask(options, token, etag):
    """Status, ETag and body of the API's answer; retried while there is none."""
    host = options.get("api_host") or os.environ.get("DOPPLER_API_HOST") or lab_api()
    attempts = int(options.get("attempts", 5))
    for attempt in range(attempts):
        try:
            status, *answer = get(host, options, token, etag)
            if status < 500 and status != 429:
                return status, *answer
            error = f"HTTP {status}"
        except (OSError, ValueError) as trouble:
            error = str(trouble)
        if attempt + 1 < attempts:
            time.sleep(BACKOFF_SECONDS[min(attempt, len(BACKOFF_SECONDS) - 1)])
    raise UnreachableError(error)


def get(host, options, token, etag):
    """One request, over a bare socket: importing an http client would take longer than all the rest."""
    scheme, _, rest = host.rstrip("/").partition("://")
    if scheme != "http":
        raise DopplerError(f"the stand-in speaks plain http only, not {host}")
    name, _, port = rest.partition(":")
    query = "&".join(f"{key}={options.get(key, '')}" for key in ("project", "config"))
    lines = [
        f"GET /v3/configs/config/secrets/download?format=json&include_dynamic_secrets=true&{query} HTTP/1.0",
        f"Host: {rest}",
        f"Authorization: Bearer {token}",
        f"User-Agent: doppler-go-{VERSION}",
    ]
    if etag:
        lines.append(f"If-None-Match: {etag}")
    with socket.create_connection((name, int(port or 80)), TIMEOUT_SECONDS) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, separator, body = answer.partition(b"\r\n\r\n")
    if not separator:
        raise ValueError("the API hung up")
    status, *headers = head.decode().split("\r\n")
    etags = [line[5:].strip() for line in headers if line.lower().startswith("etag:")]
    return int(status.split()[1]), etags[0] if etags else None, body


def lab_api():
    """The API of this lab host, so that nobody needs to know that this is one."""
    with open(API_FILE) as file:
        return file.read().strip()


def parent(command, environment):
    """Run the command, forward every signal to it, return its exit code; 255 if one killed it (decision 9)."""
    sys.stdout.flush()
    # Nothing may be lost or kill us between the fork and the handlers.
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        try:
            os.execvpe(command[0], command, environment)
        except OSError:
            os.write(2, f'Doppler Error: exec: "{command[0]}": executable file not found in $PATH\n'.encode())
            os._exit(1)

    def forward(number, _frame):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for number in FORWARDED:
        with contextlib.suppress(OSError):  # a few belong to the C library
            signal.signal(number, forward)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    _, status = os.waitpid(child, 0)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 255


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
