//! What is known of models: how much they hold and cost. A table in a file, overridable by another.

use model::money::Price;
use serde::Deserialize;
use std::collections::BTreeMap;

const SHIPPED: &str = include_str!("prices.yaml");

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelCard {
    pub context_tokens: u64,
    pub max_output_tokens: u32,
    /// `None`: not known. Such a model is only called in sessions without a budget.
    #[serde(default)]
    pub price: Option<Price>,
    #[serde(default)]
    pub long_prompt: Option<LongPrompt>,
    #[serde(default)]
    pub thinking: Thinking,
    /// Whether the model accepts to be told which tool to use.
    #[serde(default = "yes")]
    pub forced_tools: bool,
}

/// Another price for a whole call once its prompt (all kinds of input) is above a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LongPrompt {
    pub above_tokens: u64,
    pub price: Price,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Thinking {
    /// Nothing is said about it: the model does as it is used to.
    #[default]
    Unasked,
    /// Adaptive, with a summary that can be shown.
    Summarized,
}

const fn yes() -> bool {
    true
}

impl ModelCard {
    /// Of a model that no table names: sizes that most models have, and no price.
    pub const UNKNOWN: Self = Self {
        context_tokens: 128_000,
        max_output_tokens: 16_000,
        price: None,
        long_prompt: None,
        thinking: Thinking::Unasked,
        forced_tools: true,
    };

    /// The price of a call with this much input.
    #[must_use]
    pub fn price_at(&self, input_tokens: u64) -> Option<Price> {
        let long = self.long_prompt.filter(|long| input_tokens > long.above_tokens);
        long.map(|long| long.price).or(self.price)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the price table is not valid")]
pub struct InvalidPrices(#[source] Box<serde_saphyr::Error>);

/// The table.
#[derive(Debug, Clone)]
pub struct Models(BTreeMap<String, ModelCard>);

impl Models {
    /// # Errors
    /// Never for a released build: a test reads the same file.
    pub fn shipped() -> Result<Self, InvalidPrices> {
        Ok(Self(parse(SHIPPED)?))
    }

    /// Lays another table over this one, entry by entry.
    ///
    /// # Errors
    /// When the text is not such a table; line and column are in the source.
    pub fn with(mut self, yaml: &str) -> Result<Self, InvalidPrices> {
        self.0.extend(parse(yaml)?);
        Ok(self)
    }

    /// By its name, else as a dated snapshot of one, else by the longest pattern that matches.
    #[must_use]
    pub fn card(&self, model: &str) -> ModelCard {
        let exact = self.0.get(model).or_else(|| self.0.get(undated(model)?));
        let patterns = self.0.iter().filter_map(|(name, card)| Some((name.strip_suffix('*')?, card)));
        let matching =
            patterns.filter(|(start, _)| model.starts_with(start)).max_by_key(|(start, _)| start.len());
        exact.or(matching.map(|(_, card)| card)).copied().unwrap_or(ModelCard::UNKNOWN)
    }
}

fn parse(yaml: &str) -> Result<BTreeMap<String, ModelCard>, InvalidPrices> {
    serde_saphyr::from_str(yaml).map_err(|error| InvalidPrices(Box::new(error)))
}

/// `name` of `name-20261001` and `name-2026-10-01`.
fn undated(model: &str) -> Option<&str> {
    let (name, date) = [9, 11].into_iter().find_map(|length| {
        let (name, date) = model.split_at_checked(model.len().checked_sub(length)?)?;
        date.starts_with("-20").then_some((name, date))
    })?;
    let digits = date.bytes().filter(u8::is_ascii_digit).count();
    (digits == 8 && date.bytes().all(|b| b.is_ascii_digit() || b == b'-')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::money::MicroUsd;

    #[test]
    fn the_shipped_table_is_sound() {
        for (name, card) in Models::shipped().unwrap().0 {
            let price = card.price.unwrap();
            assert!(price.cache_read <= price.input && price.input <= price.cache_write, "{name}");
            assert!(
                price.input < price.output && u64::from(card.max_output_tokens) <= card.context_tokens,
                "{name}"
            );
        }
    }

    #[test]
    fn cards_are_found_by_name_date_and_pattern() {
        let models = Models::shipped().unwrap().with(
            "claude-opus-5: {contextTokens: 7, maxOutputTokens: 1}\n'scripted/b*': {contextTokens: 8, maxOutputTokens: 1}",
        );
        let models = models.unwrap();
        let check =
            |model: &str, context: u64| assert_eq!(models.card(model).context_tokens, context, "{model}");
        check("claude-haiku-4-5", 200_000);
        check("claude-haiku-4-5-20251001", 200_000);
        check("gpt-5.4-2026-03-05", 270_000);
        check("claude-opus-5", 7);
        check("scripted/demo", 200_000);
        check("scripted/bad", 8);
        check("llama3", ModelCard::UNKNOWN.context_tokens);
        check("claude-haiku-4-5-2025-001", ModelCard::UNKNOWN.context_tokens);
        check("é", ModelCard::UNKNOWN.context_tokens);
    }

    #[test]
    fn a_long_prompt_has_its_own_price() {
        let card = Models::shipped().unwrap().card("claude-haiku-5-5");
        assert_eq!(card.price_at(100_000).unwrap().input, MicroUsd(100_000));
        assert_eq!(card.price_at(100_001).unwrap().input, MicroUsd(500_000));
    }

    #[test]
    fn a_table_with_a_typo_is_refused() {
        let models = Models::shipped().unwrap();
        assert!(models.clone().with("m: {contextTokens: 1, maxOutputToken: 1}").is_err());
        assert!(models.with("m: {contextTokens: 1, maxOutputTokens: 1, price: {input: -1}}").is_err());
    }
}
