//! Amounts of a resource as Kubernetes writes them.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt, str::FromStr};

const SUFFIXES: [&str; 16] =
    ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/// The same as [`FromStr`] takes.
const PATTERN: &str = r"^[0-9]+(\.[0-9]+)?(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$";
const MAX_LENGTH: usize = 32;

/// An amount such as `2`, `500m` or `4Gi`; never negative. Of Kubernetes' quantities those with a sign or an exponent
/// are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "Written", into = "String")]
#[schema(value_type = String, example = "500m")]
pub struct Quantity(Box<str>);

/// People write `cpu: 2` as often as `cpu: "2"`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Whole(u64),
    Text(String),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a quantity must be a number with an optional unit, such as 2, 500m or 4Gi")]
pub struct InvalidQuantity;

impl Quantity {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The amount in whole units, such as bytes; a part of one counts as one.
    #[must_use]
    pub fn units(&self) -> u64 {
        let number = self.0.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let factor = match self.0.get(number.len()..).unwrap_or_default() {
            "n" => 1e-9,
            "u" => 1e-6,
            "m" => 1e-3,
            "k" => 1e3,
            "M" => 1e6,
            "G" => 1e9,
            "T" => 1e12,
            "P" => 1e15,
            "E" => 1e18,
            "Ki" => 1024.0,
            "Mi" => 1_048_576.0,
            "Gi" => 1_073_741_824.0,
            "Ti" => 1_099_511_627_776.0,
            "Pi" => 1_125_899_906_842_624.0,
            "Ei" => 1_152_921_504_606_846_976.0,
            _ => 1.0,
        };
        let amount = number.parse::<f64>().unwrap_or_default() * factor;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a cast of floats saturates, and there is no sign"
        )]
        let units = amount.ceil() as u64;
        units
    }
}

impl FromStr for Quantity {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let (whole, fraction) = number.split_once('.').map_or((number, None), |(w, f)| (w, Some(f)));
        let suffix = text.get(number.len()..).unwrap_or_default();
        let valid = text.len() <= MAX_LENGTH
            && digits(whole)
            && fraction.is_none_or(digits)
            && SUFFIXES.contains(&suffix);
        if valid { Ok(Self(text.into())) } else { Err(InvalidQuantity) }
    }
}

impl TryFrom<Written> for Quantity {
    type Error = InvalidQuantity;

    fn try_from(written: Written) -> Result<Self, InvalidQuantity> {
        match written {
            Written::Whole(number) => Ok(Self(number.to_string().into())),
            Written::Text(text) => text.parse(),
        }
    }
}

impl From<Quantity> for String {
    fn from(quantity: Quantity) -> Self {
        quantity.0.into()
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": PATTERN,
            "maxLength": MAX_LENGTH,
            "x-kubernetes-int-or-string": true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_quantity_is() {
        let check = |value: serde_json::Value, expected: Option<&str>| {
            let got = serde_json::from_value::<Quantity>(value.clone()).ok();
            assert_eq!(got.as_ref().map(Quantity::as_str), expected, "{value}");
        };
        check("2".into(), Some("2"));
        check(2.into(), Some("2"));
        check("0.5".into(), Some("0.5"));
        check("500m".into(), Some("500m"));
        check("4Gi".into(), Some("4Gi"));
        check("".into(), None);
        check("Gi".into(), None);
        check("4GB".into(), None);
        check("4 Gi".into(), None);
        check(".5".into(), None);
        check("-1".into(), None);
        check((-1).into(), None);
        check("1".repeat(33).into(), None);
    }

    #[test]
    fn how_much_it_is() {
        let check = |text: &str, expected: u64| {
            assert_eq!(text.parse::<Quantity>().unwrap().units(), expected, "{text}");
        };
        check("2", 2);
        check("500m", 1);
        check("1.5Gi", 1_610_612_736);
        check("40G", 40_000_000_000);
        check("9999Ei", u64::MAX);
    }
}
