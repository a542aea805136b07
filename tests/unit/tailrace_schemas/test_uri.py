"""Database URIs: what is read, what is refused, and that a password never comes out."""

import pytest

from tailrace_schemas.errors import ConfigError
from tailrace_schemas.uri import DatabaseUrl, Secret, libpq_parameters, looks_like_url, parse_database_url, redact

CANARY = "c4nary/p@ss:w%rd?#"
QUOTED = "c4nary%2Fp@ss:w%25rd%3F%23"


def no_file(path: str) -> str:
    raise FileNotFoundError(2, "No such file or directory", path)


def test_all_parts_are_read_and_percent_decoded() -> None:
    url = parse_database_url(
        f"postgres://us%40er:{QUOTED}@db.example.org:6543/my%2Fshop"
        "?sslmode=verify-ca&sslrootcert=/etc/ca%20file.pem&sslcert=/c.pem&sslkey=/k.pem&progress=ops.done"
    )
    assert url == DatabaseUrl(
        engine="postgresql",
        host="db.example.org",
        port=6543,
        user="us@er",
        password=Secret(CANARY),
        database="my/shop",
        sslmode="verify-ca",
        sslrootcert="/etc/ca file.pem",
        sslcert="/c.pem",
        sslkey="/k.pem",
        options={"progress": "ops.done"},
    )
    assert url.password is not None
    assert url.password.reveal() == CANARY


@pytest.mark.parametrize(
    ("text", "engine", "port"),
    [
        ("postgresql://h/d", "postgresql", 5432),
        ("postgres://h/d", "postgresql", 5432),
        ("mysql://h/d", "mysql", 3306),
        ("mariadb://h/d", "mariadb", 3306),
        ("MySQL://h:3307/d", "mysql", 3307),
    ],
)
def test_engine_and_default_port_follow_the_scheme(text: str, engine: str, port: int) -> None:
    url = parse_database_url(text)
    assert (url.engine, url.port) == (engine, port)


@pytest.mark.parametrize(
    ("host", "read", "sslmode"),
    [
        ("db.example.org", "db.example.org", "verify-full"),
        ("10.0.0.7", "10.0.0.7", "verify-full"),
        ("[2001:db8::1]", "2001:db8::1", "verify-full"),
        ("localhost", "localhost", "disable"),
        ("127.0.0.2", "127.0.0.2", "disable"),
        ("[::1]", "::1", "disable"),
        ("%2Frun%2Fpostgresql", "/run/postgresql", "disable"),
    ],
)
def test_default_sslmode_is_verify_full_unless_the_host_is_local(host: str, read: str, sslmode: str) -> None:
    url = parse_database_url(f"postgresql://u@{host}/d")
    assert (url.host, url.sslmode) == (read, sslmode)
    assert not url.weak_tls


def test_a_socket_may_also_stand_in_the_query() -> None:
    url = parse_database_url("mysql://u@/shop?host=/run/mysqld.sock")
    assert (url.host, url.is_socket, url.database) == ("/run/mysqld.sock", True, "shop")


def test_weaker_than_verify_full_to_a_remote_host_is_marked() -> None:
    assert parse_database_url("mysql://u@db/shop?sslmode=require").weak_tls
    assert not parse_database_url("mysql://u@localhost/shop?sslmode=disable").weak_tls


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://u:{QUOTED}@db:5433/shop?sslmode=require&progress=a.b",
        f"mysql://u%2F:{QUOTED}@[2001:db8::1]/",
        f"mariadb://u:{QUOTED}@%2Frun%2Fmysqld.sock/shop",
        "postgresql://u@localhost/shop",
    ],
)
def test_text_reads_back_as_the_same_url_but_for_the_password(text: str) -> None:
    url = parse_database_url(text)
    again = parse_database_url(url.with_references("PW")).resolve({"PW": CANARY}, no_file)
    assert libpq_parameters(again) == libpq_parameters(url)
    assert (again.options, again.engine) == (url.options, url.engine)
    for shown in (str(url), repr(url), f"{url}", url.redacted(), url.place, url.with_references("PW"), repr([url])):
        assert "c4nary" not in shown


def test_references_stay_references_until_they_are_resolved() -> None:
    url = parse_database_url("postgresql://u:${env:SHOP_PW}@db/shop")
    assert url.with_references("OTHER") == "postgresql://u:${env:SHOP_PW}@db:5432/shop"
    assert url.password is not None
    with pytest.raises(ConfigError, match="SHOP_PW"):
        url.password.reveal()
    resolved = url.resolve({"SHOP_PW": "x"}, no_file)
    assert resolved.password is not None
    assert resolved.password.reveal() == "x"
    assert resolved.with_references("OTHER") == "postgresql://u:${env:SHOP_PW}@db:5432/shop"


def test_a_password_file_may_end_with_one_line_break() -> None:
    url = parse_database_url("mysql://u:${file:/run/secrets/pw@1?}@db/shop").resolve(
        {}, {"/run/secrets/pw@1?": " s \r\n"}.__getitem__
    )
    assert url.password is not None
    assert (url.host, url.password.reveal()) == ("db", " s ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("postgresql://u:${env:NOPE}@db/shop", "NOPE is not set"),
        ("postgresql://u:${env:EMPTY}@db/shop", "is empty"),
        ("postgresql://u:${file:/nowhere}@db/shop", "/nowhere cannot be read"),
    ],
)
def test_a_reference_that_leads_nowhere_is_an_error(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_database_url(text).resolve({"EMPTY": ""}, no_file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"oracle://u:{QUOTED}@db/shop", "oracle:// is not a database URI"),
        (f"u:{QUOTED}@db/shop", "without a scheme"),
        ("u:c4nary@db/shop?x=http://y", "without a scheme"),
        (f"postgresql://u:{QUOTED}@/shop", "no host"),
        (f"postgresql://u:{QUOTED}@db/shop?sslmod=disable", "unknown key in the URI: sslmod"),
        (f"postgresql://u:{QUOTED}@db/shop?sslmode=prefer", "sslmode 'prefer'"),
        (f"postgresql://u:{QUOTED}@db/shop?sslmode=verify-ca", "needs sslrootcert"),
        (f"postgresql://u:{QUOTED}@db/shop?sslcert=/c", "belong together"),
        (f"postgresql://u:{QUOTED}@db/shop?sslmode=require&sslmode=disable", "stands twice"),
        (f"postgresql://u:{QUOTED}@db:0/shop", "0 is not a port"),
        (f"postgresql://u:{QUOTED}@db:x/shop", "host of the URI"),
        (f"postgresql://u:{QUOTED}@[nonsense]/shop", "not an IPv6 address"),
        (f"postgresql://u:{QUOTED}@db/shop?host=/run", "two hosts"),
        (f"postgresql://u:{QUOTED}@db/shop/more", "form scheme"),
        ("postgresql://u:c4nary/p@db/shop", "form scheme"),
        ("postgresql://u:123/c4nary@db", "form scheme"),
        ("postgresql://u:c4nary${env:X}@db/shop", "not both"),
        ("postgresql://u:${c4nary}@db/shop", "must be a reference"),
    ],
)
def test_what_is_wrong_is_named_and_the_password_is_not(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_database_url(text)
    assert message in str(caught.value)
    assert "c4nary" not in str(caught.value)


def test_verify_full_without_a_ca_file_means_the_system_store() -> None:
    parameters = libpq_parameters(parse_database_url("postgresql://u@db/shop"))
    assert (parameters["sslmode"], parameters["sslrootcert"]) == ("verify-full", "system")
    assert "sslrootcert" not in libpq_parameters(parse_database_url("postgresql://u@db/shop?sslmode=require"))


def test_a_file_name_does_not_look_like_a_url() -> None:
    assert looks_like_url("postgresql://h/d")
    assert not looks_like_url("C:/pipeline.yaml")
    assert not looks_like_url("pipeline.yaml")


def test_passwords_of_uris_inside_a_text_are_redacted() -> None:
    text = "got postgresql://u:c4nary@x@h/d and kafka://u:c4nary@k:1?x, but http://h:80/a and a@b stay"
    assert redact(text) == "got postgresql://u:***@h/d and kafka://u:***@k:1?x, but http://h:80/a and a@b stay"
