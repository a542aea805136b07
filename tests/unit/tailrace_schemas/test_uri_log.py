"""Log URIs."""

import pytest

from tailrace_schemas.errors import ConfigError
from tailrace_schemas.log_uri import KafkaLogUrl, SqliteLogUrl, parse_log_url
from tailrace_schemas.uri import Secret


def test_the_embedded_log_lives_in_the_state_folder_unless_a_path_is_given() -> None:
    assert parse_log_url("sqlite") == SqliteLogUrl(None)
    assert parse_log_url("sqlite:///var/my%20log.db") == SqliteLogUrl("/var/my log.db")
    assert str(parse_log_url("sqlite:///var/my%20log.db")) == "sqlite:///var/my%20log.db"


def test_all_parts_of_a_kafka_log_are_read() -> None:
    url = parse_log_url(
        "kafka://al%40ice:c4nary%2F@k1:9092,[::1]:9093?registry=https://r:8081&prefix=shop&partitions=8&replication=3"
        "&security_protocol=sasl_plaintext&sasl_mechanism=SCRAM-SHA-256&registry_user=bob&registry_password=c4nary"
    )
    assert url == KafkaLogUrl(
        brokers=("k1:9092", "[::1]:9093"),
        registry="https://r:8081",
        prefix="shop",
        partitions=8,
        replication=3,
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="SCRAM-SHA-256",
        user="al@ice",
        password=Secret("c4nary/"),
        registry_user="bob",
        registry_password=Secret("c4nary"),
    )
    assert "c4nary" not in f"{url} {url!r} {url.with_references()}"


def test_files_for_the_tls_of_the_registry_are_read_and_written_back() -> None:
    files = "registry_ca=/etc/my%20ca.crt&registry_cert=/c.crt&registry_key=/c.key"
    url = parse_log_url(f"kafka://k:1?registry=https://r:1&{files}")
    assert isinstance(url, KafkaLogUrl)
    assert (url.registry_ca, url.registry_cert, url.registry_key) == ("/etc/my ca.crt", "/c.crt", "/c.key")
    assert str(url).endswith(f"&{files}")
    assert parse_log_url(url.with_references()) == url


def test_references_read_back_and_are_looked_up_late() -> None:
    text = "kafka://u:${file:/run/k?}@k:1?registry=http://r:1&registry_password=${env:R&}&registry_user=u"
    url = parse_log_url(text)
    assert parse_log_url(url.with_references()) == url
    resolved = url.resolve({"R&": "b"}, {"/run/k?": "a\n"}.__getitem__)
    assert isinstance(resolved, KafkaLogUrl)
    assert resolved.password is not None
    assert resolved.registry_password is not None
    assert (resolved.password.reveal(), resolved.registry_password.reveal()) == ("a", "b")


def test_a_login_means_sasl_over_tls_unless_written_otherwise() -> None:
    url = parse_log_url("kafka://u:p@k:9092?registry=http://r:8081")
    assert isinstance(url, KafkaLogUrl)
    assert (url.security_protocol, url.sasl_mechanism) == ("SASL_SSL", "PLAIN")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("postgresql://u:c4nary@h/d", "not a log URI"),
        ("log.db", "not a log URI"),
        ("u:c4nary@k:1?registry=http://r:1", "without a scheme"),
        ("sqlite://log.db", "three slashes"),
        ("kafka://k:9092", "schema registry"),
        ("kafka://k:9092?registry=http://u:c4nary@r:8081", "schema registry"),
        ("kafka://k?registry=http://r:1", "not host:port"),
        ("kafka://u:c4nary@k?registry=http://r:1", "not host:port"),
        ("kafka://u@k:1?registry=http://r:1", "user:password"),
        ("kafka://k:1?registry=http://r:1&acks=1", "unknown key in the log URI: acks"),
        ("kafka://k:1?registry=http://r:1&partitions=0", "partitions"),
        ("kafka://k:1?registry=http://r:1&partitions=2&partitions=3", "stands twice"),
        ("kafka://k:1?registry=http://r:1&security_protocol=TLS", "'TLS' is unknown"),
        ("kafka://k:1?registry=http://r:1&sasl_mechanism=MD5", "'MD5' is unknown"),
        ("kafka://u:c4nary@k:1?registry=http://r:1&security_protocol=SSL", "not used"),
        ("kafka://k:1?registry=http://r:1&registry_ca=/ca", "registry_ca: not used with a registry on http://"),
        ("kafka://k:1?registry=https://r:1&registry_cert=/c", "belong together"),
    ],
)
def test_what_is_wrong_with_a_log_uri_is_named_and_no_password_is(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_log_url(text)
    assert message in str(caught.value)
    assert "c4nary" not in str(caught.value)
