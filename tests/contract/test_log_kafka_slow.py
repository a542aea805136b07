"""A Kafka log behind a slow line: a log transaction that does not fit into Kafka's transaction timeout goes through."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest
from fix_kafka import kafka_settings
from fix_servers import KAFKA, free_ports, private_server
from librt.strings import BytesWriter

from tailrace_log.kafka import KafkaLog
from tailrace_log.log import Batch, CommitRecord
from tailrace_schemas.errors import RetryableError
from tailrace_schemas.wire import put_frame

pytestmark = pytest.mark.servers
PIECE = 4096


class SlowLine:
    """Passes bytes on to `upstream`; what clients send, at most `rate` bytes a second on each connection."""

    def __init__(self, port: int, upstream: int, rate: int) -> None:
        self._upstream, self._rate = upstream, rate
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", port))
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                # Little is held in between, so that the sender sees the line as slow as it is.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * PIECE)
                server = socket.create_connection(("127.0.0.1", self._upstream))
                self._sockets.append(server)
                for reader, writer, rate in ((client, server, self._rate), (server, client, 0)):
                    threading.Thread(target=self._pass, args=(reader, writer, rate), daemon=True).start()

    def _pass(self, reader: socket.socket, writer: socket.socket, rate: int) -> None:
        with suppress(OSError):
            while data := reader.recv(PIECE):
                writer.sendall(data)
                if rate:
                    time.sleep(len(data) / rate)
        for end in (reader, writer):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`
        self._acceptor.join(10)
        self._listener.close()
        for one in self._sockets:
            one.close()


@contextmanager
def slow_broker(rate: int) -> Iterator[str]:
    (port,) = free_ports(1)
    with (
        private_server(KAFKA, config=f"advertised.listeners=PLAINTEXT://127.0.0.1:{port}") as broker,
        closing(SlowLine(port, broker.port, rate)),
    ):
        yield f"127.0.0.1:{port}"


def incompressible(topic: str, count: int, size: int) -> Batch:
    out = BytesWriter()
    for number in range(count):
        put_frame(out, b"%d" % number, os.urandom(size))
    return Batch(topic, 0, count, out.getvalue())


def write(log: KafkaLog, topic: str, batch: Batch) -> CommitRecord:
    """One run of capture: open, write the first log transaction."""
    with closing(log.writer("shop", ["replica"])) as writer:
        assert writer.open() == []
        writer.ensure_topics({topic: 1})
        return writer.write([batch], CommitRecord(0, "shop", "stream", {}, "0", load_full=True))


def test_a_log_transaction_longer_than_the_transaction_timeout_is_written_at_last() -> None:
    prefix = f"s{os.urandom(4).hex()}"
    topic = f"{prefix}.public.t"
    with slow_broker(rate=100_000) as address:
        # 600 kB are 6 s on that line: twice the timeout and more.
        log = KafkaLog(kafka_settings(address, prefix, transaction_timeout_ms=2000))
        batch = incompressible(topic, 60, 10_000)
        failures: list[str] = []
        written = None
        while written is None and len(failures) < 6:
            try:
                written = write(log, topic, batch)
            except RetryableError as error:  # whoever meets it opens the log again
                failures.append(str(error))
        assert written is not None, failures
        assert any("the next one may take 4 s" in failure for failure in failures)
        with closing(log.reader()) as reader:
            [found] = reader.commits(-1, 10, 30)
            assert found == written
            assert reader.read(found) == [batch]


def test_a_timeout_that_the_brokers_do_not_allow_is_made_shorter() -> None:
    prefix = f"s{os.urandom(4).hex()}"
    with private_server(KAFKA, config="transaction.max.timeout.ms=5000") as broker:
        log = KafkaLog(kafka_settings(f"{broker.host}:{broker.port}", prefix, transaction_timeout_ms=3000))
        assert log._patience.failed(60)
        assert log._patience.milliseconds == 6000
        assert write(log, f"{prefix}.public.t", incompressible(f"{prefix}.public.t", 1, 10)).seq == 0
        assert log._patience.milliseconds == 3000
        assert not log._patience.failed(60), "never again more than the brokers allow"
