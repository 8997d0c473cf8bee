"""The SSH agent's keys, with the certificates that it has of them."""

import os
import socket
from contextlib import suppress

import paramiko
from paramiko import agent
from paramiko.message import Message
from paramiko.pkey import PublicBlob

from . import certificates


class Agent(agent.AgentSSH):
    """The agent that ssh_config names by a path, or that of the environment (SSH_AUTH_SOCK), or `none`.

    One that is not there is as good as an empty one.
    """

    def __init__(self, where: str) -> None:
        super().__init__()
        path = os.environ.get("SSH_AUTH_SOCK", "") if where == "SSH_AUTH_SOCK" else where
        self._socket = socket.socket(socket.AF_UNIX)
        if path not in ("", "none"):
            with suppress(OSError, paramiko.SSHException):
                self._socket.connect(path)
                self._connect(self._socket)

    def __enter__(self) -> "Agent":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def keys(self) -> "list[AgentKey]":
        """Its keys in its order; a key is there once more for each of its certificates."""
        return [AgentKey(key.agent, key.blob, key.comment) for key in self.get_keys()]


class AgentKey(agent.AgentKey):
    """paramiko's takes the certificate of an RSA key for the bare key: sshd refuses that, and so may the agent."""

    def __init__(self, agent: agent.Agent, blob: bytes, comment: str = "") -> None:
        super().__init__(agent, blob, comment)
        self.bare = blob  # the public key, without a certificate
        if self.get_name().endswith(certificates.SUFFIX):
            self.public_blob = PublicBlob.from_message(Message(blob))
            with suppress(*certificates.UNREADABLE):
                self.bare = certificates.certified_key(self.public_blob)

    def asbytes(self) -> bytes:
        return self.blob

    def fresh(self) -> "AgentKey":
        """Another one of the same, to be given a certificate."""
        return AgentKey(self.agent, self.blob, self.comment)
