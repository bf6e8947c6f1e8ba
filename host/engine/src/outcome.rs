//! From the contract's outcome to ours, within the limit of output bytes.

use crate::{
    bindings::tool::{exports::vteam::plugin::tool as guest, vteam::plugin::types::Content},
    call::{CallEnd, CallFailure, Staged, ToolError},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use model::{
    event::Observation,
    message::{Block, ImageSource},
};
use serde_json::Value;

/// What models take.
const IMAGES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];

pub(crate) fn end(
    outcome: Result<guest::Outcome, guest::ToolError>,
    staged: Vec<Staged>,
    max_bytes: u64,
) -> CallEnd {
    let bytes = size(&outcome);
    if bytes > max_bytes {
        let message = format!("the plugin answered with {bytes} bytes: {max_bytes} are allowed");
        return CallEnd::Failed(CallFailure::plugin(message));
    }
    match outcome {
        Ok(guest::Outcome::Done(done)) => done_end(done, staged),
        Ok(guest::Outcome::NeedsInput(question)) => question_end(question),
        // A later contract's outcome: plainest is what it says, as text.
        Ok(guest::Outcome::Other(other)) => {
            CallEnd::Done { content: vec![Block::text(other.value)], observations: Vec::new(), staged }
        }
        Err(error) => CallEnd::Refused(tool_error(error)),
    }
}

fn done_end(done: guest::Done, staged: Vec<Staged>) -> CallEnd {
    let guest::Done { content, observations } = done;
    let observations = observations.into_iter().map(|guest::Observation { kind, value }| Observation {
        by: "guest".to_owned(),
        kind,
        value: serde_json::from_str(&value).unwrap_or(Value::String(value)),
    });
    let observations = observations.collect();
    match content.into_iter().map(block).collect() {
        Ok(content) => CallEnd::Done { content, observations, staged },
        Err(failure) => CallEnd::Failed(failure),
    }
}

fn question_end(question: guest::NeedsInput) -> CallEnd {
    let guest::NeedsInput { request, state } = question;
    match serde_json::from_str(&request) {
        Ok(request) => CallEnd::NeedsInput { request, state },
        Err(_) => CallEnd::Failed(CallFailure::plugin("the plugin asked a question that is not JSON")),
    }
}

fn block(content: Content) -> Result<Block, CallFailure> {
    match content {
        Content::Text(text) | Content::Json(text) => Ok(Block::text(text)),
        Content::Image(image) if IMAGES.contains(&image.media_type.as_str()) => Ok(Block::Image {
            source: ImageSource::Base64 { media_type: image.media_type, data: STANDARD.encode(image.data) },
        }),
        Content::Image(_) => Err(CallFailure::plugin(format!(
            "the plugin answered with an image that is none of {}",
            IMAGES.join(", ")
        ))),
        Content::Other(other) => Ok(Block::text(other.value)),
    }
}

fn tool_error(error: guest::ToolError) -> ToolError {
    match error {
        guest::ToolError::InvalidInput(message) => ToolError::InvalidInput(message.into()),
        guest::ToolError::NotFound(message) => ToolError::NotFound(message.into()),
        guest::ToolError::Denied(denial) => {
            ToolError::Denied { effect: denial.effect.into(), message: denial.message.into() }
        }
        guest::ToolError::Unavailable(message) => ToolError::Unavailable(message.into()),
        guest::ToolError::Failed(message) => ToolError::Failed(message.into()),
        guest::ToolError::Other(other) => {
            ToolError::Other { kind: other.kind.into(), value: other.value.into() }
        }
    }
}

fn size(outcome: &Result<guest::Outcome, guest::ToolError>) -> u64 {
    let bytes = match outcome {
        Ok(guest::Outcome::Done(done)) => {
            let observed = done.observations.iter().map(|o| o.kind.len() + o.value.len());
            done.content.iter().map(content_size).chain(observed).sum()
        }
        Ok(guest::Outcome::NeedsInput(question)) => question.request.len() + question.state.len(),
        Ok(guest::Outcome::Other(other)) | Err(guest::ToolError::Other(other)) => {
            other.kind.len() + other.value.len()
        }
        Err(guest::ToolError::Denied(denial)) => denial.effect.len() + denial.message.len(),
        Err(
            guest::ToolError::InvalidInput(text)
            | guest::ToolError::NotFound(text)
            | guest::ToolError::Unavailable(text)
            | guest::ToolError::Failed(text),
        ) => text.len(),
    };
    bytes as u64
}

fn content_size(content: &Content) -> usize {
    match content {
        Content::Text(text) | Content::Json(text) => text.len(),
        Content::Image(image) => image.media_type.len() + image.data.len(),
        Content::Other(other) => other.kind.len() + other.value.len(),
    }
}
