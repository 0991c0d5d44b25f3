//! Amounts in the one spelling in which the API server gives them back, so that what is built and
//! what is live can be compared.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];

/// Bytes, with the largest unit that divides them; of a binary and a decimal one, the shorter.
pub(super) fn bytes(amount: u64) -> Quantity {
    let binary = spelled(amount, 1024, &BINARY);
    let decimal = spelled(amount, 1000, &DECIMAL);
    Quantity(if binary.len() < decimal.len() {
        binary
    } else {
        decimal
    })
}

/// Thousandths, as those of processors.
pub(super) fn milli(amount: u64) -> Quantity {
    Quantity(if amount.is_multiple_of(1000) {
        spelled(amount / 1000, 1000, &DECIMAL)
    } else {
        format!("{amount}m")
    })
}

fn spelled(amount: u64, base: u64, units: &[&str]) -> String {
    let (mut rest, mut power) = (amount, 0);
    while rest != 0 && rest.is_multiple_of(base) && power + 1 < units.len() {
        rest /= base;
        power += 1;
    }
    format!("{rest}{}", units[power])
}

#[cfg(test)]
mod tests {
    use super::{bytes, milli};

    #[test]
    fn amounts_are_spelled_as_the_api_server_spells_them() {
        for (amount, text) in [
            (50 << 20, "50Mi"),
            (2_000_000_000, "2G"),
            (100_000_000, "100M"),
            (3 << 30, "3Gi"),
            (1_024_000, "1024k"),
            (52_428_801, "52428801"),
            (0, "0"),
        ] {
            assert_eq!(bytes(amount).0, text);
        }
        for (amount, text) in [
            (2000, "2"),
            (250, "250m"),
            (1500, "1500m"),
            (2_000_000, "2k"),
        ] {
            assert_eq!(milli(amount).0, text);
        }
    }
}
