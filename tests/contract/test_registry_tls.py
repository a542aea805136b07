"""A schema registry behind TLS with a private CA, named in the log's URI."""

from contextlib import closing
from pathlib import Path

import pytest
from fix_servers import KAFKA, REGISTRY, certificates, free_ports, private_server, server

from tailrace_log.open import open_log
from tailrace_schemas.errors import ConfigError
from tailrace_schemas.log_uri import parse_log_url

pytestmark = pytest.mark.servers
SCHEMA = '{"type":"record","name":"Value","namespace":"tls.public.t","fields":[{"name":"a","type":"int"}]}'


def test_a_private_ca_of_the_registry_is_named_in_the_uri(tmp_path: Path) -> None:
    folder = certificates()
    (port,) = free_ports(1)
    tls = (
        f"QUARKUS_HTTP_SSL_PORT={port}\n"
        f"QUARKUS_HTTP_SSL_CERTIFICATE_FILES={folder}/server.crt\n"
        f"QUARKUS_HTTP_SSL_CERTIFICATE_KEY_FILES={folder}/server.key"
    )
    brokers = server(KAFKA).url
    with private_server(REGISTRY, config=tls):
        url = f"{brokers}?registry=https://127.0.0.1:{port}/apis/ccompat/v7&prefix=tls"

        trusted = parse_log_url(f"{url}&registry_ca={folder}/ca.crt")
        with closing(open_log(trusted, prefix="tls", state=tmp_path)) as log:
            number = log.registry.register("tls.public.t-value", SCHEMA)
        with closing(open_log(trusted, prefix="tls", state=tmp_path)) as log:
            assert log.registry.schema(number) == SCHEMA

        for untrusted in (url, f"{url}&registry_ca={folder}/other-ca.crt"):
            with closing(open_log(parse_log_url(untrusted), prefix="tls", state=tmp_path)) as log:
                with pytest.raises(ConfigError) as caught:
                    log.registry.register("tls.public.t-value", SCHEMA)
                assert caught.value.code == "REGISTRY_TLS"
                assert "registry_ca=" in caught.value.hint
