"""Numbers longer than Python itself turns into text at once."""

from __future__ import annotations

import pytest

from tailrace_sinks.render import big_decimal

DIGITS = "1234567890" * 14_000


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize(
    ("digits", "scale"), [(DIGITS, 0), (DIGITS, 16_000), ("9" * 4301, 4301), ("1" + "0" * 5000, 0)]
)
def test_every_digit_is_there(sign: str, digits: str, scale: int) -> None:
    value = 0
    for at in range(0, len(digits), 1000):
        value = value * 10 ** len(digits[at : at + 1000]) + int(digits[at : at + 1000])
    value = -value if sign else value
    unscaled = value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)
    whole, part = (digits[:-scale], digits[-scale:]) if scale else (digits, "")
    assert big_decimal(unscaled, scale).decode() == f"{sign}{whole or '0'}{'.' if scale else ''}{part}"
