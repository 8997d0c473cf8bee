"""An SSH agent with a FIDO key, made of software: what a real one signs with after a touch."""

import base64
import hashlib
import socket
import struct
import threading
from pathlib import Path
from types import TracebackType

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paramiko.message import Message

KIND = "sk-ssh-ed25519@openssh.com"
APPLICATION = b"ssh:"
IDENTITIES, SIGN = 11, 13  # what a client asks for (draft-miller-ssh-agent)
IDENTITIES_ANSWER, SIGN_RESPONSE = 12, 14


class FidoAgent:
    """Listens on a socket until the block ends; `signed` counts what it has signed (PROTOCOL.u2f of OpenSSH)."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.signed = 0
        self._key = Ed25519PrivateKey.generate()
        self._listener = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> "FidoAgent":
        self._listener.bind(self.path)
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, _kind: type | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self._listener.close()
        Path(self.path).unlink()

    @property
    def public(self) -> str:
        """Its public key, as authorized_keys has it."""
        return f"{KIND} {base64.b64encode(self._blob()).decode()} yubikey"

    def _blob(self) -> bytes:
        message = Message()
        for part in (KIND.encode(), self._key.public_key().public_bytes_raw(), APPLICATION):
            message.add_string(part)
        return message.asbytes()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                while head := client.recv(4):
                    request = Message(client.recv(struct.unpack(">I", head)[0], socket.MSG_WAITALL))
                    answer = self._answer(request).asbytes()
                    client.sendall(struct.pack(">I", len(answer)) + answer)

    def _answer(self, request: Message) -> Message:
        message, kind = Message(), request.get_byte()[0]
        if kind == IDENTITIES:
            message.add_byte(bytes([IDENTITIES_ANSWER]))
            message.add_int(1)
            message.add_string(self._blob())
            message.add_string("yubikey")
            return message
        assert kind == SIGN
        assert request.get_binary() == self._blob()
        message.add_byte(bytes([SIGN_RESPONSE]))
        message.add_string(self._signature(request.get_binary()))
        return message

    def _signature(self, data: bytes) -> bytes:
        self.signed += 1
        touched_and_counted = struct.pack(">BI", 1, self.signed)
        signed = hashlib.sha256(APPLICATION).digest() + touched_and_counted + hashlib.sha256(data).digest()
        message = Message()
        message.add_string(KIND)
        message.add_string(self._key.sign(signed))
        return message.asbytes() + touched_and_counted
