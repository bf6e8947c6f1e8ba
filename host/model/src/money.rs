//! Money and the reservation arithmetic of a budget.

use serde::{Deserialize, Serialize};

/// Millionths of a US dollar. Sums saturate: a charge never wraps to a small one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct MicroUsd(pub u64);

impl MicroUsd {
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Dollars, for a screen.
    #[must_use]
    pub fn dollars(self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "shown with few digits; exact sums stay in MicroUsd")]
        let micro = self.0 as f64;
        micro / 1e6
    }

    /// # Errors
    /// When the number is negative, not finite or above 10^12 dollars.
    pub fn from_dollars(dollars: f64) -> Result<Self, InvalidAmount> {
        if !(0.0..=1e12).contains(&dollars) {
            return Err(InvalidAmount);
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "range checked above")]
        let micro = (dollars * 1e6).round() as u64;
        Ok(Self(micro))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an amount of money must be a number of dollars, 0 or more")]
pub struct InvalidAmount;

/// Tokens of one model call, in the provider's own counting. The total input is the sum of the three input fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    pub input_tokens: u64,
    pub cache_write_tokens: u64,
    pub cache_read_tokens: u64,
    pub output_tokens: u64,
}

impl Usage {
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            cache_write_tokens: self.cache_write_tokens.saturating_add(other.cache_write_tokens),
            cache_read_tokens: self.cache_read_tokens.saturating_add(other.cache_read_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
        }
    }

    /// Field by field the larger one: upstream's account may raise ours, never lower it.
    #[must_use]
    pub fn at_least(self, floor: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.max(floor.input_tokens),
            cache_write_tokens: self.cache_write_tokens.max(floor.cache_write_tokens),
            cache_read_tokens: self.cache_read_tokens.max(floor.cache_read_tokens),
            output_tokens: self.output_tokens.max(floor.output_tokens),
        }
    }
}

/// Price of a model, in micro-dollars for a million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Price {
    pub input: MicroUsd,
    pub cache_write: MicroUsd,
    pub cache_read: MicroUsd,
    pub output: MicroUsd,
}

impl Price {
    /// Cost, rounded up per kind of token.
    #[must_use]
    pub fn of(&self, usage: Usage) -> MicroUsd {
        let part = |price: MicroUsd, tokens: u64| {
            MicroUsd(
                u64::try_from((u128::from(price.0) * u128::from(tokens)).div_ceil(1_000_000))
                    .unwrap_or(u64::MAX),
            )
        };
        part(self.input, usage.input_tokens)
            .plus(part(self.cache_write, usage.cache_write_tokens))
            .plus(part(self.cache_read, usage.cache_read_tokens))
            .plus(part(self.output, usage.output_tokens))
    }
}

/// What is spent and what is promised to calls under way, against a limit.
///
/// Invariant: `spent + reserved` never exceeds `limit` through [`Budget::reserve`]; only a charge above its own
/// reservation (upstream counted more) can pass it, and then nothing further is reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// `None`: no limit.
    pub limit: Option<MicroUsd>,
    pub spent: MicroUsd,
    pub reserved: MicroUsd,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the budget of ${:.6} does not cover this call: ${:.6} spent, ${:.6} promised to calls under way, ${:.6} needed", limit.dollars(), spent.dollars(), reserved.dollars(), needed.dollars())]
pub struct Overspent {
    pub limit: MicroUsd,
    pub spent: MicroUsd,
    pub reserved: MicroUsd,
    pub needed: MicroUsd,
}

impl Budget {
    /// Promises the worst case of a call.
    ///
    /// # Errors
    /// When it would pass the limit; nothing is promised then.
    pub fn reserve(&mut self, worst: MicroUsd) -> Result<(), Overspent> {
        let promised = self.reserved.plus(worst);
        match self.limit {
            Some(limit) if self.spent.plus(promised) > limit => {
                Err(Overspent { limit, spent: self.spent, reserved: self.reserved, needed: worst })
            }
            _ => {
                self.reserved = promised;
                Ok(())
            }
        }
    }

    /// Ends a promise with what the call did cost (all of it when the call was cut off).
    pub fn settle(&mut self, worst: MicroUsd, cost: MicroUsd) {
        self.reserved = self.reserved.minus(worst);
        self.spent = self.spent.plus(cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_reserves_before_and_settles_after() {
        let mut budget = Budget { limit: Some(MicroUsd(100)), ..Budget::default() };
        budget.reserve(MicroUsd(60)).unwrap();
        assert_eq!(budget.reserve(MicroUsd(60)).unwrap_err().reserved, MicroUsd(60));
        budget.settle(MicroUsd(60), MicroUsd(10));
        assert_eq!(budget, Budget { limit: Some(MicroUsd(100)), spent: MicroUsd(10), reserved: MicroUsd(0) });
        budget.reserve(MicroUsd(90)).unwrap();
        budget.settle(MicroUsd(90), MicroUsd(500));
        assert!(budget.reserve(MicroUsd(1)).is_err());
    }

    #[test]
    fn price_rounds_up() {
        let price = Price {
            input: MicroUsd(3_000_000),
            cache_write: MicroUsd(0),
            cache_read: MicroUsd(0),
            output: MicroUsd(15_000_000),
        };
        assert_eq!(price.of(Usage { input_tokens: 1, output_tokens: 1, ..Usage::default() }), MicroUsd(18));
        assert_eq!(price.of(Usage { output_tokens: u64::MAX, ..Usage::default() }), MicroUsd(u64::MAX));
    }
}
