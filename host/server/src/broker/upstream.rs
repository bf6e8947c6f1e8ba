//! Where models are, and the one interface behind which their protocols differ.

mod anthropic;
mod openai;

use super::{failure::truncated, prices::ModelCard};
use http::{HeaderMap, HeaderValue, Method, header};
use model::{
    message::{ModelEvent, ModelFailure, ModelRequest, StopReason},
    money::Usage,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

/// Where Anthropic's own API is.
pub const ANTHROPIC: &str = "https://api.anthropic.com";
/// The version that this client was written against.
pub const ANTHROPIC_VERSION: &str = "2026-10-21";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// Messages API; base such as `https://api.anthropic.com`.
    Anthropic,
    /// Chat completions; base such as `https://api.openai.com/v1`.
    OpenAi,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyStyle {
    Bearer,
    XApiKey,
}

/// One place where models answer. The key leaves it only as a header of a request to `base`.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub api: Api,
    pub base: Url,
    /// Local servers have none.
    pub key: Option<SecretString>,
    pub key_style: KeyStyle,
    pub anthropic_version: String,
    /// What people set the key and the URL with, for messages: `ANTHROPIC_API_KEY`.
    pub key_setting: &'static str,
    pub url_setting: &'static str,
}

impl Endpoint {
    /// With what is usual for an API: Anthropic's key in `x-api-key`, all others as a bearer token.
    #[must_use]
    pub fn new(api: Api, base: Url, key: Option<SecretString>) -> Self {
        let own = base.host_str() == Some("api.anthropic.com");
        Self {
            api,
            base,
            key,
            key_style: if api == Api::Anthropic { KeyStyle::XApiKey } else { KeyStyle::Bearer },
            anthropic_version: ANTHROPIC_VERSION.to_owned(),
            key_setting: if own { "ANTHROPIC_API_KEY" } else { "VTEAM_MODEL_KEY" },
            url_setting: "VTEAM_MODEL_URL",
        }
    }

    pub(super) fn host(&self) -> &str {
        self.base.host_str().unwrap_or("the endpoint")
    }

    /// The request that asks for a streamed answer. `Err` where the configured key cannot be a header.
    pub(super) fn request(
        &self,
        request: &ModelRequest,
        card: &ModelCard,
    ) -> Result<egress::Request, ModelFailure> {
        let (path, body) = match self.api {
            Api::Anthropic => ("messages", anthropic::body(request, card)),
            Api::OpenAi => ("chat/completions", openai::body(request, self.host())),
        };
        Ok(egress::Request {
            method: Method::POST,
            url: self.at(path),
            headers: self.headers()?,
            body: body.to_string().into(),
        })
    }

    fn headers(&self) -> Result<HeaderMap, ModelFailure> {
        let unusable = || {
            super::failure::invalid(format!(
                "{} is not a key: it has characters that no header can carry",
                self.key_setting
            ))
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        if self.api == Api::Anthropic {
            let version = HeaderValue::from_str(&self.anthropic_version).map_err(|_| unusable())?;
            headers.insert("anthropic-version", version);
        }
        if let Some(key) = &self.key {
            let (name, value) = match self.key_style {
                KeyStyle::Bearer => (header::AUTHORIZATION, format!("Bearer {}", key.expose_secret())),
                KeyStyle::XApiKey => {
                    ("x-api-key".parse().map_err(|_| unusable())?, key.expose_secret().to_owned())
                }
            };
            let mut value = HeaderValue::from_str(&value).map_err(|_| unusable())?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(headers)
    }

    /// `<base>/v1/<path>`, where a base may end in its version already.
    fn at(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        let versioned = base.rsplit('/').next().is_some_and(|last| {
            last.strip_prefix('v').is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit()))
        });
        url.set_path(&if versioned { format!("{base}/{path}") } else { format!("{base}/v1/{path}") });
        url.set_query(None);
        url.set_fragment(None);
        url
    }

    pub(super) const fn decoder(&self) -> Decoder {
        match self.api {
            Api::Anthropic => Decoder::Anthropic(anthropic::Decoder::new()),
            Api::OpenAi => Decoder::OpenAi(openai::Decoder::new()),
        }
    }
}

/// What one piece of an upstream's stream means.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Decoded {
    Event(ModelEvent),
    /// Upstream's account so far; `complete` once it counts the whole output.
    Usage {
        usage: Usage,
        complete: bool,
    },
    /// The answer is whole.
    Done(StopReason),
    Failed(ModelFailure),
}

pub(super) enum Decoder {
    Anthropic(anthropic::Decoder),
    OpenAi(openai::Decoder),
}

impl Decoder {
    /// Reads the data of one server-sent event.
    pub(super) fn feed(&mut self, data: &str) -> Vec<Decoded> {
        match self {
            Self::OpenAi(decoder) if data.trim() == "[DONE]" => decoder.end(),
            _ => match serde_json::from_str::<Value>(data) {
                Err(_) => vec![Decoded::Failed(truncated("the endpoint sent something that is not JSON"))],
                Ok(value) => match self {
                    Self::Anthropic(decoder) => decoder.feed(value),
                    Self::OpenAi(decoder) => decoder.feed(&value),
                },
            },
        }
    }

    /// The stream's end without a word: whole or cut.
    pub(super) fn end(&mut self) -> Vec<Decoded> {
        match self {
            Self::Anthropic(_) => vec![Decoded::Failed(truncated("the stream ended before the message did"))],
            Self::OpenAi(decoder) => decoder.end(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_ours() {
        let check = |base: &str, path: &str, expected: &str| {
            let endpoint = Endpoint::new(Api::Anthropic, base.parse().unwrap(), None);
            assert_eq!(endpoint.at(path).as_str(), expected, "{base}");
        };
        check("https://api.anthropic.com", "messages", "https://api.anthropic.com/v1/messages");
        check("https://api.openai.com/v1/", "chat/completions", "https://api.openai.com/v1/chat/completions");
        check("http://h:1/anthropic?x=1#y", "messages", "http://h:1/anthropic/v1/messages");
        check("https://h/api/paas/v4", "chat/completions", "https://h/api/paas/v4/chat/completions");
    }
}
