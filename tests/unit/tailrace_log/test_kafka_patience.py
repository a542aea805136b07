"""How long a log transaction in Kafka may take."""

from tailrace_log.kafka_writer import LONGEST_TRANSACTION_MS, Patience


def test_time_is_doubled_only_after_a_failure_that_took_time() -> None:
    patience = Patience(10_000)
    assert not patience.failed(1.0)
    assert patience.milliseconds == 10_000
    assert patience.failed(9.0)
    assert patience.milliseconds == 20_000


def test_time_has_an_end() -> None:
    patience = Patience(10_000)
    for _ in range(10):
        patience.failed(10_000)
    assert patience.milliseconds == LONGEST_TRANSACTION_MS
    assert not patience.failed(10_000)


def test_a_quick_log_transaction_ends_the_patience_and_a_slow_one_keeps_it() -> None:
    patience = Patience(10_000)
    patience.failed(9.0)
    patience.succeeded(12.0)
    assert patience.milliseconds == 20_000
    patience.succeeded(0.1)
    assert patience.milliseconds == 10_000


def test_what_the_brokers_refuse_is_not_asked_for_again() -> None:
    patience = Patience(10_000)
    patience.failed(9.0)
    assert patience.refused()
    assert not patience.failed(9.0)
    assert patience.milliseconds == 10_000
    assert not patience.refused(), "nothing shorter is left"
