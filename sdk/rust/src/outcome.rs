//! What a call gives back.

use crate::{Content, Done, Image, NeedsInput, Observation, Outcome};
use serde_json::Value;

impl Outcome {
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Done(Done { content: vec![Content::Text(text.into())], observations: Vec::new() })
    }

    #[must_use]
    pub fn image(media_type: &str, data: Vec<u8>) -> Self {
        let image = Image { media_type: media_type.to_owned(), data };
        Self::Done(Done { content: vec![Content::Image(image)], observations: Vec::new() })
    }

    /// Asks the person. The host calls again with the same input, the answer in the context's key `answer`.
    #[must_use]
    pub fn ask(request: &Value) -> Self {
        Self::NeedsInput(NeedsInput { request: request.to_string(), state: Vec::new() })
    }

    /// Adds the plugin's own account of what it did.
    #[must_use]
    pub fn observe(mut self, kind: &str, value: &Value) -> Self {
        if let Self::Done(done) = &mut self {
            done.observations.push(Observation { kind: kind.to_owned(), value: value.to_string() });
        }
        self
    }
}
