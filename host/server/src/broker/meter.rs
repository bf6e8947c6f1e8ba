//! What a call may cost at most, what it did cost, and our own count of what passed. Pure.
//!
//! Tokens are the provider's; we see bytes. The worst case takes a token for two bytes (English and code have three to
//! four bytes to a token, Chinese two to three, hexadecimal about two), and never more than the model's window holds.
//! The floor takes a token for eight bytes: no text that a model writes or reads is sparser over a whole call, so an
//! upstream that reports less is not believed.

use super::{ledger::Settlement, prices::ModelCard};
use model::{
    message::{Block, Delta, ModelEvent, ModelRequest},
    money::{MicroUsd, Usage},
};

const WORST_BYTES_A_TOKEN: u64 = 2;
const FLOOR_BYTES_A_TOKEN: u64 = 8;
/// An image at the largest size that providers keep.
const IMAGE_TOKENS: u64 = 5000;
/// What providers put around a request: the tools' preamble and the frames of messages.
const FRAME_TOKENS: u64 = 600;
const MESSAGE_TOKENS: u64 = 16;

/// How a call ended, as far as paying is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The provider refused it or was never reached: nothing is owed.
    Unserved,
    Whole,
    /// Something was sent and its end is not known: what upstream did not report is charged at its worst.
    Cut,
}

/// The account of one call.
#[derive(Debug, Clone)]
pub(super) struct Meter {
    card: ModelCard,
    max_tokens: u64,
    worst_input: u64,
    floor_input: u64,
    streamed_bytes: u64,
    reported: Option<Usage>,
    /// Whether `reported` counts the whole output.
    complete: bool,
}

impl Meter {
    pub(super) fn new(request: &ModelRequest, card: ModelCard) -> Self {
        let (bytes, images) = sizes(request);
        let frames = FRAME_TOKENS + MESSAGE_TOKENS * (request.messages.len() + request.tools.len()) as u64;
        let worst = bytes.div_ceil(WORST_BYTES_A_TOKEN) + images * IMAGE_TOKENS + frames;
        Self {
            card,
            max_tokens: request.max_tokens.into(),
            worst_input: worst.min(card.context_tokens),
            floor_input: bytes / FLOOR_BYTES_A_TOKEN,
            streamed_bytes: 0,
            reported: None,
            complete: false,
        }
    }

    /// To reserve before anything is sent; `None` without a price.
    pub(super) fn worst(&self) -> Option<MicroUsd> {
        let price = self.card.price_at(self.worst_input)?;
        let input = price.input.max(price.cache_write);
        let usage =
            Usage { input_tokens: self.worst_input, output_tokens: self.max_tokens, ..Usage::default() };
        Some(model::money::Price { input, ..price }.of(usage))
    }

    pub(super) fn passed(&mut self, event: &ModelEvent) {
        self.streamed_bytes += match event {
            ModelEvent::BlockStart { block, .. } => block_bytes(block).0,
            ModelEvent::BlockDelta { delta, .. } => match delta {
                Delta::Text { text } => text.len() as u64,
                Delta::InputJson { partial_json } => partial_json.len() as u64,
                Delta::Thinking { thinking } => thinking.len() as u64,
                Delta::Signature { .. } | Delta::Other(_) => 0,
            },
            _ => 0,
        };
    }

    /// Upstream's account so far; `complete` once it counts the whole output.
    pub(super) fn reported(&mut self, usage: Usage, complete: bool) {
        self.reported = Some(usage);
        self.complete |= complete;
    }

    pub(super) fn settle(&self, ending: Ending) -> Settlement {
        if ending == Ending::Unserved {
            return Settlement { usage: Usage::default(), cost: MicroUsd(0), aborted: false };
        }
        let aborted = ending == Ending::Cut;
        let mut usage =
            self.reported.unwrap_or(Usage { cache_write_tokens: self.worst_input, ..Usage::default() });
        if !self.complete {
            let streamed = self.streamed_bytes.div_ceil(WORST_BYTES_A_TOKEN);
            usage.output_tokens = usage.output_tokens.max(if aborted { self.max_tokens } else { streamed });
        }
        let usage = self.raised(usage);
        let input = usage
            .input_tokens
            .saturating_add(usage.cache_write_tokens)
            .saturating_add(usage.cache_read_tokens);
        let cost = self.card.price_at(input).map_or(MicroUsd(0), |price| price.of(usage));
        Settlement { usage, cost, aborted }
    }

    /// Never below our own count.
    fn raised(&self, usage: Usage) -> Usage {
        let input = usage
            .input_tokens
            .saturating_add(usage.cache_write_tokens)
            .saturating_add(usage.cache_read_tokens);
        let missing = self.floor_input.saturating_sub(input);
        let output_tokens = self.streamed_bytes / FLOOR_BYTES_A_TOKEN;
        Usage { input_tokens: usage.input_tokens.saturating_add(missing), ..usage }
            .at_least(Usage { output_tokens, ..Usage::default() })
    }
}

/// Bytes of text, and images, of a whole request.
fn sizes(request: &ModelRequest) -> (u64, u64) {
    let system: u64 = request.system.iter().map(|text| text.len() as u64).sum();
    let tools = request
        .tools
        .iter()
        .map(|tool| (tool.name.len() + tool.description.len() + tool.input_schema.to_string().len()) as u64);
    let blocks = request.messages.iter().flat_map(|message| &message.content).map(block_bytes);
    let (text, images) = blocks.fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1));
    (system + tools.sum::<u64>() + text, images)
}

fn block_bytes(block: &Block) -> (u64, u64) {
    match block {
        Block::Text { text } => (text.len() as u64, 0),
        Block::Thinking { thinking, signature } => ((thinking.len() + signature.len()) as u64, 0),
        Block::RedactedThinking { data } => (data.len() as u64, 0),
        Block::ToolUse { name, input, .. } => ((name.len() + input.to_string().len()) as u64, 0),
        Block::ToolResult { content, .. } => {
            content.iter().map(block_bytes).fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1))
        }
        Block::Image { .. } => (0, 1),
        Block::Other(value) => (value.to_string().len() as u64, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::money::Price;
    use serde_json::json;

    const CARD: ModelCard = ModelCard {
        price: Some(Price {
            input: MicroUsd(2_000_000),
            cache_write: MicroUsd(3_000_000),
            cache_read: MicroUsd(1_000_000),
            output: MicroUsd(10_000_000),
        }),
        ..ModelCard::UNKNOWN
    };

    fn meter(prompt: usize) -> Meter {
        let request = json!({"model": "m", "max_tokens": 100,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "x".repeat(prompt)}]}]});
        Meter::new(&serde_json::from_value(request).unwrap(), CARD)
    }

    fn text(meter: &mut Meter, length: usize) {
        let delta = Delta::Text { text: "y".repeat(length).into() };
        meter.passed(&ModelEvent::BlockDelta { index: 0, delta });
    }

    #[test]
    fn the_worst_case_is_bounded_by_the_window() {
        assert_eq!(meter(800).worst(), Some(MicroUsd((400 + 616) * 3 + 100 * 10)));
        assert_eq!(meter(10_000_000).worst(), Some(MicroUsd(128_000 * 3 + 100 * 10)));
        let mut unpriced = meter(1);
        unpriced.card.price = None;
        assert_eq!(unpriced.worst(), None);
    }

    #[test]
    fn upstream_may_raise_but_not_lower() {
        let mut meter = meter(800);
        text(&mut meter, 400);
        meter.reported(
            Usage { input_tokens: 10, cache_read_tokens: 40, output_tokens: 1, ..Usage::default() },
            true,
        );
        let usage = meter.settle(Ending::Whole).usage;
        assert_eq!(
            usage,
            Usage { input_tokens: 60, cache_read_tokens: 40, output_tokens: 50, ..Usage::default() }
        );
        meter.reported(Usage { input_tokens: 200, output_tokens: 90, ..Usage::default() }, true);
        assert_eq!(meter.settle(Ending::Whole).cost, MicroUsd(200 * 2 + 90 * 10));
    }

    #[test]
    fn what_was_cut_off_is_charged_at_its_worst() {
        let mut meter = meter(800);
        assert_eq!(meter.settle(Ending::Cut).cost, meter.worst().unwrap());
        meter.reported(Usage { input_tokens: 200, output_tokens: 3, ..Usage::default() }, false);
        text(&mut meter, 40);
        let cut = meter.settle(Ending::Cut);
        assert_eq!((cut.cost, cut.aborted), (MicroUsd(200 * 2 + 100 * 10), true));
        meter.reported(Usage { input_tokens: 200, output_tokens: 9, ..Usage::default() }, true);
        assert_eq!(meter.settle(Ending::Cut).cost, MicroUsd(200 * 2 + 9 * 10));
    }

    #[test]
    fn an_upstream_that_counts_nothing_is_counted_for() {
        let mut meter = meter(800);
        text(&mut meter, 40);
        let usage = meter.settle(Ending::Whole).usage;
        assert_eq!((usage.cache_write_tokens, usage.output_tokens), (1016, 20));
        assert_eq!(meter.settle(Ending::Unserved).cost, MicroUsd(0));
    }
}
