"""A mail server on the loopback that speaks just enough SMTP for Python's own client, with or without TLS."""

from __future__ import annotations

import base64
import socketserver
import ssl
from email import message_from_bytes
from email.message import Message
from email.policy import default
from pathlib import Path
from threading import Thread
from typing import Any


class Sink(socketserver.ThreadingTCPServer):
    """Keeps what it is given.

    Attributes:
        messages: parsed, with the recipients of the envelope.
        logins: user and password.
        refuse: what it answers to a recipient, e.g. ``b"550 no"``; ``None`` takes everyone.
        used_tls: whether the last message came encrypted.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.messages: list[tuple[Message, list[str]]] = []
        self.logins: list[tuple[str, str]] = []
        self.refuse: bytes | None = None
        self.used_tls = False
        self.context: ssl.SSLContext | None = None
        if certificate is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*certificate)
        Thread(target=self.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class _Session(socketserver.StreamRequestHandler):
    server: Sink

    def say(self, line: bytes) -> None:
        self.wfile.write(line + b"\r\n")
        self.wfile.flush()

    def handle(self) -> None:
        self.say(b"220 sink")
        recipients: list[str] = []
        encrypted = False
        while line := self.rfile.readline():
            verb = line.strip().split(b" ", 1)[0].upper()
            if verb in (b"EHLO", b"HELO"):
                self.say(b"250-sink")
                if self.server.context is not None and not encrypted:
                    self.say(b"250-STARTTLS")
                self.say(b"250 AUTH PLAIN")
            elif verb == b"STARTTLS":
                assert self.server.context is not None
                self.say(b"220 go ahead")
                secure: Any = self.server.context.wrap_socket(self.connection, server_side=True)
                self.connection, encrypted = secure, True
                self.rfile, self.wfile = secure.makefile("rb"), secure.makefile("wb", 0)
            elif verb == b"AUTH":
                _, user, password = base64.b64decode(line.split()[2]).split(b"\0")
                self.server.logins.append((user.decode(), password.decode()))
                self.say(b"235 welcome")
            elif verb == b"RCPT":
                if self.server.refuse is not None:
                    self.say(self.server.refuse)
                    continue
                recipients.append(line.split(b"<", 1)[1].split(b">", 1)[0].decode())
                self.say(b"250 ok")
            elif verb == b"DATA":
                self.say(b"354 go on")
                lines = []
                while (part := self.rfile.readline()) != b".\r\n":
                    lines.append(part[1:] if part.startswith(b"..") else part)
                self.server.messages.append((message_from_bytes(b"".join(lines), policy=default), recipients))
                self.server.used_tls = encrypted
                recipients = []
                self.say(b"250 kept")
            elif verb == b"QUIT":
                self.say(b"221 bye")
                return
            else:
                self.say(b"250 ok")
