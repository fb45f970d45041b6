"""Handles jobs of kind `invoice.total`: adds up an invoice to the cent, and gives it the next number.

Input:  {"customer": "Globex", "currency": "EUR", "lines": [
            {"text": "Digging", "quantity": "7.5", "price": "85.00", "vat": "19", "discount": "10"}]}
Output: {"number": "2025-0001", "customer", "currency", "lines": [… with "net"], "net", "vat": [{"rate", "net", "vat"}],
         "gross"}

Amounts are decimal texts, never floats: 0.1 + 0.2 is 0.3 here. A line is rounded to the currency's smallest coin, half
up; VAT is rounded once a rate, on the sum of its lines, as tax offices want it. Numbers have no gaps and no repetition,
however many invoices are added up at the same time and however often one is tried: the number is taken in the same step
that marks the job as succeeded.
"""

import decimal
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from sandhog_sdk import ABSENT, Context, handler, transient

# Digits after the point, by currency; two, where none is named.
_DIGITS = {"JPY": 0, "KRW": 0, "KWD": 3, "TND": 3}
_LINES_MAX = 10_000


@dataclass(frozen=True)
class Line:
    """A line of an invoice."""

    text: str
    quantity: Decimal
    price: Decimal
    vat: Decimal
    discount: Decimal

    def net(self, coin: Decimal) -> Decimal:
        """What it costs before VAT."""
        return _rounded(self.quantity * self.price * (100 - self.discount) / 100, coin)


@dataclass(frozen=True)
class Order:
    """What is to be invoiced."""

    customer: str
    currency: str
    lines: list[Line]


def parse(input: Any) -> Order:
    """The order of a payload; raises if it is none."""
    customer, currency, lines = (_member(input, name, kind) for name, kind in _MEMBERS)
    if not 1 <= len(lines) <= _LINES_MAX:
        raise ValueError(f"`lines` are 1 to {_LINES_MAX}")
    return Order(customer, currency, [_line(line, number) for number, line in enumerate(lines, 1)])


_MEMBERS: list[tuple[str, type]] = [("customer", str), ("currency", str), ("lines", list)]


def _member(input: Any, name: str, kind: type) -> Any:
    value = input.get(name) if isinstance(input, dict) else None
    if not isinstance(value, kind):
        raise ValueError(f"`{name}` is missing, or no {kind.__name__}")
    return value


def _line(line: Any, number: int) -> Line:
    try:
        text = _member(line, "text", str)
        quantity = _amount(line, "quantity", low="-1e9", high="1e9")
        price = _amount(line, "price", low="-1e9", high="1e9")
        vat = _amount(line, "vat", low="0", high="100")
        return Line(text, quantity, price, vat, _amount(line, "discount", low="0", high="100", default="0"))
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from None


def _amount(line: Any, name: str, *, low: str, high: str, default: str | None = None) -> Decimal:
    text = line.get(name, default)
    if not isinstance(text, (str, int)) or isinstance(text, bool):
        raise ValueError(f"`{name}` is a decimal number as text")
    try:
        value = Decimal(text)
    except decimal.InvalidOperation:
        value = Decimal("NaN")
    if value.is_nan() or not Decimal(low) <= value <= Decimal(high):
        raise ValueError(f"`{name}` is a decimal number from {low} to {high}, as text")
    return value


@handler("invoice.total", input=parse)
def total(ctx: Context, order: Order) -> dict[str, Any]:
    """Adds up an invoice."""
    coin = Decimal(1).scaleb(-_DIGITS.get(order.currency, 2))
    nets = [line.net(coin) for line in order.lines]
    by_rate: defaultdict[Decimal, Decimal] = defaultdict(Decimal)
    for line, net in zip(order.lines, nets, strict=True):
        by_rate[line.vat.normalize()] += net
    taxes = {rate: _rounded(net * rate / 100, coin) for rate, net in sorted(by_rate.items())}
    net = sum(nets, Decimal())
    number = _next_number(ctx, datetime.now(UTC).year)
    ctx.log.info("added up an invoice", number=number, lines=len(nets))
    return {
        "number": number,
        "customer": order.customer,
        "currency": order.currency,
        "lines": [{"text": line.text, "net": f"{net:f}"} for line, net in zip(order.lines, nets, strict=True)],
        "net": f"{net:f}",
        "vat": [{"rate": f"{rate:f}", "net": f"{by_rate[rate]:f}", "vat": f"{tax:f}"} for rate, tax in taxes.items()],
        "gross": f"{net + sum(taxes.values(), Decimal()):f}",
    }


def _next_number(ctx: Context, year: int) -> str:
    key = f"last number of {year}"
    last = ctx.state.get(key)
    number = (last or 0) + 1
    # It holds only if no other job has taken the number by the time that this one settles.
    if not ctx.state.compare_and_set(key, ABSENT if last is None else last, number):
        raise transient("another invoice has taken the number")
    return f"{year}-{number:04}"


def _rounded(amount: Decimal, coin: Decimal) -> Decimal:
    return amount.quantize(coin, rounding=ROUND_HALF_UP)
