import unittest
from datetime import UTC, datetime
from typing import Any

import invoice
from sandhog_sdk.testing import FakeHost


def line(**changed: Any) -> dict[str, Any]:
    return {"text": "Digging", "quantity": "1", "price": "1.00", "vat": "19", **changed}


def order(*lines: dict[str, Any], currency: str = "EUR") -> dict[str, Any]:
    return {"customer": "Globex", "currency": currency, "lines": list(lines)}


class Invoice(unittest.TestCase):
    def test_an_invoice_is_added_up_to_the_cent(self) -> None:
        digging = line(quantity="7.5", price="85.00", discount="10")
        books = line(text="Books", quantity=3, price="0.10", vat="7")
        output = FakeHost().run(invoice.total, order(digging, books, line(price="0.20"))).output
        self.assertEqual([line["net"] for line in output["lines"]], ["573.75", "0.30", "0.20"])
        self.assertEqual(
            output["vat"],
            [{"rate": "7", "net": "0.30", "vat": "0.02"}, {"rate": "19", "net": "573.95", "vat": "109.05"}],
        )
        self.assertEqual((output["net"], output["gross"]), ("574.25", "683.32"))

    def test_coins_are_those_of_the_currency_and_halves_go_up(self) -> None:
        def net(price: str, currency: str) -> Any:
            return FakeHost().run(invoice.total, order(line(price=price), currency=currency)).output["net"]

        self.assertEqual([net("0.005", "EUR"), net("0.5", "JPY"), net("0.0005", "KWD")], ["0.01", "1", "0.001"])
        self.assertEqual(net("-0.005", "EUR"), "-0.01")

    def test_numbers_follow_each_other_and_a_failed_run_takes_none(self) -> None:
        host = FakeHost()
        year = datetime.now(UTC).year
        self.assertEqual(host.run(invoice.total, order(line())).output["number"], f"{year}-0001")
        self.assertIsNotNone(host.run(invoice.total, order(line(price="x"))).failure)
        self.assertEqual(host.run(invoice.total, order(line())).output["number"], f"{year}-0002")
        self.assertEqual(host.stored(f"last number of {year}"), 2)

    def test_what_is_no_invoice_is_refused_for_good_with_its_line(self) -> None:
        for payload, says in [
            (order(line(), line(price="1e99")), "line 2: `price` is a decimal number from -1e9 to 1e9"),
            (order(line(price="hunter2")), "line 1: `price`"),
            (order(line(price=0.1)), "line 1: `price` is a decimal number as text"),
            (order(line(vat="NaN")), "line 1: `vat`"),
            (order(), "`lines` are 1 to"),
            ([], "`customer` is missing"),
        ]:
            failure = FakeHost().run(invoice.total, payload).failure
            assert failure is not None and failure.permanent
            self.assertIn(says, str(failure))
            self.assertNotIn("hunter2", str(failure))


if __name__ == "__main__":
    unittest.main()
