//! Amounts in the notation of Kubernetes: `2Gi`, `500M`, `1.5`, `250m`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount as it was written. [`Quantity::bytes`] and [`Quantity::milli`] say how much it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantity(String);

/// Why a text is no amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a number followed by a known suffix.
    #[error(
        "is not a quantity: write a number and a unit, such as 50Mi, 2Gi (binary) or 500M, 2G (decimal)"
    )]
    Form,
    /// The suffixes of `redis.conf`.
    #[error("is in the notation of redis.conf: write Mi or Gi here (binary), or M or G (decimal)")]
    RedisUnit,
    /// Below zero.
    #[error("must not be negative")]
    Negative,
    /// More than 2^63-1 of the unit asked for.
    #[error("is too large")]
    TooLarge,
}

impl Quantity {
    /// Wraps a text; nothing is checked yet.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How many bytes, rounded up to a whole one.
    pub fn bytes(&self) -> Result<u64, QuantityError> {
        self.scaled(1)
    }

    /// How many thousandths, rounded up: `250m` of processor time is 250.
    pub fn milli(&self) -> Result<u64, QuantityError> {
        self.scaled(1000)
    }

    /// The amount times `factor`, rounded up, after the grammar of
    /// <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.
    fn scaled(&self, factor: u128) -> Result<u64, QuantityError> {
        let text = self.0.as_str();
        let unsigned = text.strip_prefix('+').unwrap_or(text);
        if let Some(rest) = text.strip_prefix('-') {
            let numeric = rest.starts_with(|c: char| c.is_ascii_digit());
            return Err(if numeric {
                QuantityError::Negative
            } else {
                QuantityError::Form
            });
        }
        let number_len = unsigned
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(number_len);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return Err(QuantityError::Form);
        }
        // More digits than this cannot be told apart from a full disk of 2^63 bytes.
        if whole.len() > 19 || fraction.len() > 9 {
            return Err(QuantityError::TooLarge);
        }
        let (multiplier, divisor) = unit(suffix)?;
        let digits: u128 = format!("{whole}{fraction}")
            .parse()
            .map_err(|_| QuantityError::Form)?;
        let places = u32::try_from(fraction.len()).map_err(|_| QuantityError::TooLarge)?;
        let scale = 10_u128.pow(places) * divisor;
        let amount = digits
            .checked_mul(multiplier)
            .and_then(|v| v.checked_mul(factor))
            .ok_or(QuantityError::TooLarge)?
            .div_ceil(scale);
        // Kubernetes itself holds amounts as signed 64 bits.
        i64::try_from(amount)
            .ok()
            .and_then(|v| u64::try_from(v).ok())
            .ok_or(QuantityError::TooLarge)
    }
}

/// A suffix as a multiplier and a divisor.
fn unit(suffix: &str) -> Result<(u128, u128), QuantityError> {
    let power = |base: u128, exponent: u32| Ok((base.pow(exponent), 1));
    match suffix {
        "" => Ok((1, 1)),
        "n" => Ok((1, 1_000_000_000)),
        "u" => Ok((1, 1_000_000)),
        "m" => Ok((1, 1000)),
        "k" => power(1000, 1),
        "M" => power(1000, 2),
        "G" => power(1000, 3),
        "T" => power(1000, 4),
        "P" => power(1000, 5),
        "E" => power(1000, 6),
        "Ki" => power(1024, 1),
        "Mi" => power(1024, 2),
        "Gi" => power(1024, 3),
        "Ti" => power(1024, 4),
        "Pi" => power(1024, 5),
        "Ei" => power(1024, 6),
        _ => match suffix.strip_prefix(['e', 'E']).map(str::parse::<i32>) {
            Some(Ok(exponent @ 0..=18)) => power(10, exponent.unsigned_abs()),
            Some(Ok(exponent @ -9..0)) => Ok((1, 10_u128.pow(exponent.unsigned_abs()))),
            Some(Ok(_)) => Err(QuantityError::TooLarge),
            _ if is_redis_unit(suffix) => Err(QuantityError::RedisUnit),
            _ => Err(QuantityError::Form),
        },
    }
}

fn is_redis_unit(suffix: &str) -> bool {
    ["b", "kb", "mb", "gb", "g"]
        .iter()
        .any(|unit| suffix.eq_ignore_ascii_case(unit))
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        match value {
            serde_json::Value::String(text) => Ok(Self(text)),
            serde_json::Value::Number(number) => Ok(Self(number.to_string())),
            _ => Err(serde::de::Error::custom("a quantity is text or a number")),
        }
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    // The form that Kubernetes itself uses for its amounts, and takes in a CRD.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{ "type": "integer" }, { "type": "string" }],
            "x-kubernetes-int-or-string": true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_known_spellings() {
        for (text, bytes) in [
            ("0", 0),
            ("50Mi", 52_428_800),
            ("2000M", 2_000_000_000),
            ("100M", 100_000_000),
            ("1.5Gi", 1_610_612_736),
            (".5k", 500),
            ("1.", 1),
            ("+7Ki", 7168),
            ("128e6", 128_000_000),
            ("12E2", 1200),
            ("1E", 1_000_000_000_000_000_000),
            ("1500m", 2),
            ("25e-1", 3),
            ("0.000000001", 1),
        ] {
            assert_eq!(Quantity::new(text).bytes(), Ok(bytes), "{text}");
        }
        assert_eq!(Quantity::new("1.5").milli(), Ok(1500));
        assert_eq!(Quantity::new("250m").milli(), Ok(250));
    }

    #[test]
    fn what_is_no_quantity() {
        use QuantityError::{Form, Negative, RedisUnit, TooLarge};
        for (text, error) in [
            ("", Form),
            (".", Form),
            ("Gi", Form),
            ("1.2.3", Form),
            ("2 Gi", Form),
            ("2Gib", Form),
            ("lots", Form),
            ("-", Form),
            ("-1Gi", Negative),
            ("2gb", RedisUnit),
            ("100mb", RedisUnit),
            ("8Ei", TooLarge),
            ("1e19", TooLarge),
            ("99999999999999999999", TooLarge),
        ] {
            assert_eq!(Quantity::new(text).bytes(), Err(error), "{text}");
        }
    }
}
