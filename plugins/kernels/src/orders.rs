//! Transforming JSON: a document whose form isn't known beforehand.

use serde_json::{Value, json};

const ORDERS: u64 = 200;

/// Parses, changes and prints a document so many times, and returns its text.
///
/// # Errors
/// If it isn't what it was printed as.
pub(crate) fn transform(rounds: u32) -> serde_json::Result<String> {
    let mut text = serde_json::to_string(&document())?;
    for _ in 0..rounds {
        let mut document: Value = serde_json::from_str(&text)?;
        document["orders"].as_array_mut().into_iter().flatten().for_each(change);
        text = serde_json::to_string(&document)?;
    }
    Ok(text)
}

/// Adds up an order, and notes that this was done once more.
fn change(order: &mut Value) {
    let items = order["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let cents = items.iter().map(|item| number(&item["cents"]) * number(&item["quantity"])).sum::<u64>();
    let version = number(&order["version"]) + 1;
    order["total"] = json!({ "cents": cents, "euros": cents as f64 / 100.0 });
    order["version"] = json!(version);
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn document() -> Value {
    let item = |order: u64, n: u64| {
        json!({
            "sku": format!("SKU-{:05}", (order * 37 + n * 101) % 100_000),
            "title": "A chair of beech, \u{201c}Grünwald\u{201d}, with arms\n",
            "cents": 995 + (order * 13 + n * 7) % 20_000,
            "quantity": 1 + (order + n) % 4,
            "weight": 0.25 * (1 + n) as f64,
            "gift": n == 2,
        })
    };
    let order = |n: u64| {
        json!({
            "id": n,
            "version": 0,
            "customer": {
                "name": format!("Customer {n}"),
                "mail": format!("customer{n}@shop.example"),
                "address": { "street": "Am Graben 7", "city": "Linz", "country": "AT", "floor": null },
            },
            "items": (0..2 + n % 4).map(|i| item(n, i)).collect::<Vec<_>>(),
            "notes": ["leave it at the door", ""],
        })
    };
    json!({ "orders": (0..ORDERS).map(order).collect::<Vec<_>>() })
}
