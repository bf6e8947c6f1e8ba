//! A component's question to the session's model.

use crate::{assemble::Assembly, conversation, http::Http};
use engine::{Completions, async_trait};
use futures::StreamExt as _;
use model::{
    id::RunId,
    message::{Block, Message, ModelFailure, ModelRequest, Role},
};
use protocol::http::ModelCall;

pub struct OfSession {
    pub http: Http,
    pub run: RunId,
    pub model: String,
    pub max_tokens: u32,
}

#[async_trait]
impl Completions for OfSession {
    async fn complete(
        &self,
        system: Option<String>,
        prompt: String,
        max_tokens: Option<u32>,
    ) -> Result<String, ModelFailure> {
        let request = ModelRequest {
            model: self.model.clone(),
            max_tokens: max_tokens.unwrap_or(self.max_tokens).min(self.max_tokens),
            system: system.into_iter().collect(),
            messages: vec![Message { role: Role::User, content: vec![Block::text(prompt)] }],
            tools: vec![],
            tool_choice: None,
            stop_sequences: vec![],
            cache: vec![],
        };
        let key = uuid::Uuid::now_v7().to_string();
        let mut stream =
            self.http.model(&ModelCall { run: self.run.clone(), idempotency_key: key, request }).await?;
        let mut assembly = Assembly::default();
        while let Some(event) = stream.next().await {
            assembly.apply(event?)?;
        }
        assembly.finish().map(|answer| conversation::text(&answer.content))
    }
}
