//! The server's REST interface, as far as the command uses it. Over the local socket, or TCP.

mod address;
mod credential;
mod stream;
mod upload;

pub(crate) use address::Address;
pub(crate) use credential::Credential;
pub(crate) use stream::Item;
pub(crate) use upload::Parcel;

use crate::exit::{Code, Failure, Outcome};
use model::{
    approval::Decision,
    event::Stored,
    id::{AskId, PluginId, ProjectName, SessionName},
};
use protocol::control::Ask;
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::time::Duration;

/// Every request that is no stream ends within this.
const DEADLINE: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    address: Address,
    credential: Credential,
    project: ProjectName,
    /// See [`Client::flags`].
    flags: String,
}

/// What became of a wish to stop.
#[derive(Debug)]
pub(crate) enum Stop {
    Under,
    /// There is nothing to stop: the session as it is.
    AtRest(Value),
}

/// A list as the server sends it.
#[derive(Debug, Deserialize)]
struct Items<T> {
    items: Vec<T>,
}

#[derive(Debug, Deserialize)]
struct Refused {
    #[serde(default)]
    refused: Vec<Value>,
}

/// Problem details (RFC 9457), as far as a person is told.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: String,
    detail: String,
    errors: Vec<FieldProblem>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FieldProblem {
    field: String,
    message: String,
}

impl Client {
    pub(crate) fn new(address: Address, credential: Credential, project: ProjectName) -> Outcome<Self> {
        let builder = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(10))
            // The server gives up an idle connection after 30 s: a request must not meet that.
            .pool_idle_timeout(Duration::from_secs(20));
        let builder = address.prepare(builder)?;
        let http =
            builder.build().map_err(|e| Failure::of(Code::Failed, "cannot set up the HTTP client", &e))?;
        Ok(Self { http, base: address.base(), address, credential, project, flags: String::new() })
    }

    pub(crate) fn named_by(self, flags: String) -> Self {
        Self { flags, ..self }
    }

    /// What names this server and project in a command that is to be typed next.
    pub(crate) fn flags(&self) -> &str {
        &self.flags
    }

    pub(crate) fn project_name(&self) -> &ProjectName {
        &self.project
    }

    /// What a person can do while nobody answers.
    pub(crate) fn away(&self) -> &'static str {
        self.address.away()
    }

    /// As whom we talk, where that is worth a word.
    pub(crate) fn acts_as(&self) -> Option<String> {
        self.credential.acts_as()
    }

    async fn request(&self, method: Method, path: &str) -> Outcome<RequestBuilder> {
        let token = self.credential.token().await?;
        Ok(self.http.request(method, format!("{}{path}", self.base)).bearer_auth(token.expose_secret()))
    }

    fn project(&self, rest: &str) -> String {
        format!("/api/projects/{}/{rest}", self.project)
    }

    fn session(&self, name: &SessionName, rest: &str) -> String {
        self.project(&format!("agentic-sessions/{name}{rest}"))
    }

    async fn send(&self, request: RequestBuilder) -> Outcome<Response> {
        let answer = request.send().await.map_err(|e| self.unreachable(&e))?;
        if answer.status().is_success() { Ok(answer) } else { Err(self.refusal(answer).await) }
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Outcome<Response> {
        let mut request = self.request(method, path).await?.timeout(DEADLINE);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.send(request).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Outcome<T> {
        decode(self.call(Method::GET, path, None).await?).await
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        if error.is_builder() {
            return Failure::new(
                Code::Failed,
                format!("the request cannot be made: {}", address::cause(error)),
            );
        }
        Failure::new(Code::Unreachable, format!("no server answers {}", self.address.nobody(error)))
    }

    /// What a server that says no means for the person.
    async fn refusal(&self, answer: Response) -> Failure {
        let failure = refusal(answer).await;
        match failure.code {
            Code::Unauthorized => Failure::new(
                failure.code,
                format!("{failure} ({})", self.credential.what_to_do(&self.address)),
            ),
            _ => failure,
        }
    }

    /// Whether a server answers and accepts our token.
    pub(crate) async fn version(&self) -> Outcome<Value> {
        self.get("/api/version").await
    }

    /// What the server says works less well than it should, and what to do.
    pub(crate) async fn degraded(&self) -> Outcome<Vec<String>> {
        let ready: Value = self.get("/ready").await?;
        let parts = ready.get("degraded").and_then(Value::as_object).into_iter().flatten();
        Ok(parts.map(|(part, why)| format!("{part}: {}", why.as_str().unwrap_or_default())).collect())
    }

    /// The project's settings.
    pub(crate) async fn settings(&self) -> Outcome<Value> {
        self.get(&self.project("settings")).await
    }

    pub(crate) async fn create(&self, session: &Value) -> Outcome<Value> {
        decode(self.call(Method::POST, &self.project("agentic-sessions"), Some(session)).await?).await
    }

    pub(crate) async fn sessions(&self) -> Outcome<Vec<Value>> {
        self.all(&self.project("agentic-sessions")).await
    }

    pub(crate) async fn get_session(&self, name: &SessionName) -> Outcome<Value> {
        self.get(&self.session(name, "")).await
    }

    pub(crate) async fn remove(&self, name: &SessionName) -> Outcome {
        self.call(Method::DELETE, &self.session(name, ""), None).await.map(drop)
    }

    pub(crate) async fn stop(&self, name: &SessionName) -> Outcome<Stop> {
        let answer = self.call(Method::POST, &self.session(name, "/stop"), Some(&json!({}))).await?;
        match answer.status() {
            StatusCode::OK => decode(answer).await.map(Stop::AtRest),
            _ => Ok(Stop::Under),
        }
    }

    pub(crate) async fn interrupt(&self, name: &SessionName) -> Outcome {
        self.call(Method::POST, &self.session(name, "/agui/interrupt"), Some(&json!({}))).await.map(drop)
    }

    /// The run that works on the message.
    pub(crate) async fn message(&self, name: &SessionName, text: &str) -> Outcome<Value> {
        let body = json!({ "message": text });
        decode(self.call(Method::POST, &self.session(name, "/agui/run"), Some(&body)).await?).await
    }

    pub(crate) async fn pending(&self, name: &SessionName) -> Outcome<Vec<Ask>> {
        self.get::<Items<Ask>>(&self.session(name, "/approvals")).await.map(|list| list.items)
    }

    pub(crate) async fn decide(&self, name: &SessionName, id: &AskId, decision: &Decision) -> Outcome {
        let path = self.session(name, &format!("/approvals/{id}"));
        self.call(Method::POST, &path, Some(&as_json(decision)?)).await.map(drop)
    }

    pub(crate) async fn answer(&self, name: &SessionName, id: &AskId, answer: &Value) -> Outcome {
        let path = self.session(name, &format!("/questions/{id}"));
        self.call(Method::POST, &path, Some(&json!({ "answer": answer }))).await.map(drop)
    }

    pub(crate) async fn diff(&self, name: &SessionName) -> Outcome<String> {
        let answer = self.call(Method::GET, &self.session(name, "/diff"), None).await?;
        answer.text().await.map_err(|e| Failure::of(Code::Failed, "the diff was cut off", &e))
    }

    /// A file of the workspace, or of the last run's snapshot.
    pub(crate) async fn file(&self, name: &SessionName, path: &str) -> Outcome<Vec<u8>> {
        let escaped: Vec<String> = path.split('/').map(escape).collect();
        let path = self.session(name, &format!("/workspace/{}", escaped.join("/")));
        let answer = self.call(Method::GET, &path, None).await?;
        let bytes =
            answer.bytes().await.map_err(|e| Failure::of(Code::Failed, "the file was cut off", &e))?;
        Ok(bytes.to_vec())
    }

    /// All events up to now.
    pub(crate) async fn events(&self, name: &SessionName) -> Outcome<Vec<Stored>> {
        self.all(&self.session(name, "/events")).await
    }

    pub(crate) async fn plugins(&self) -> Outcome<Vec<Value>> {
        self.all(&self.project("plugins")).await
    }

    /// Files of the drop folder that the server does not take.
    pub(crate) async fn refused_plugins(&self) -> Outcome<Vec<Value>> {
        self.get::<Refused>(&self.project("plugins")).await.map(|answer| answer.refused)
    }

    pub(crate) async fn plugin(&self, id: &PluginId) -> Outcome<Value> {
        self.get(&self.project(&format!("plugins/{id}"))).await
    }

    pub(crate) async fn upload(&self, component: Vec<u8>) -> Outcome<Value> {
        let request = self.request(Method::POST, &self.project("plugins")).await?;
        let request =
            request.header(header::CONTENT_TYPE, "application/wasm").timeout(DEADLINE).body(component);
        decode(self.send(request).await?).await
    }

    pub(crate) async fn approve_plugin(&self, id: &PluginId, grant: &Value) -> Outcome<Value> {
        let path = self.project(&format!("plugins/{id}/approve"));
        decode(self.call(Method::POST, &path, Some(grant)).await?).await
    }

    pub(crate) async fn remove_plugin(&self, id: &PluginId) -> Outcome {
        self.call(Method::DELETE, &self.project(&format!("plugins/{id}")), None).await.map(drop)
    }

    pub(crate) async fn personas(&self) -> Outcome<Vec<Value>> {
        self.all(&self.project("personas")).await
    }

    /// All pages of a list.
    async fn all<T: DeserializeOwned>(&self, path: &str) -> Outcome<Vec<T>> {
        let mut all = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let query =
                next.as_deref().map_or_else(String::new, |token| format!("?continue={}", escape(token)));
            let page: Value = self.get(&format!("{path}{query}")).await?;
            next = continuation(&page);
            let items: Items<T> = serde_json::from_value(page).map_err(|e| {
                Failure::of(Code::Failed, "the server's answer is not what this version expects", &e)
            })?;
            let empty = items.items.is_empty();
            all.extend(items.items);
            if next.is_none() || empty {
                return Ok(all);
            }
        }
    }
}

/// Where the next page begins.
fn continuation(page: &Value) -> Option<String> {
    let token = page.pointer("/metadata/continue").or_else(|| page.get("continue"))?;
    let text = token.as_str().map_or_else(|| token.to_string(), str::to_owned);
    (!token.is_null() && !text.is_empty()).then_some(text)
}

fn as_json<T: Serialize>(value: &T) -> Outcome<Value> {
    serde_json::to_value(value).map_err(|e| Failure::of(Code::Failed, "cannot write the request", &e))
}

/// Percent-encodes one segment of a path (RFC 3986, unreserved characters stay).
fn escape(segment: &str) -> String {
    let mut out = String::new();
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

async fn decode<T: DeserializeOwned>(answer: Response) -> Outcome<T> {
    answer
        .json()
        .await
        .map_err(|e| Failure::of(Code::Failed, "the server's answer is not what this version expects", &e))
}

async fn refusal(answer: Response) -> Failure {
    let status = answer.status();
    let code = match status {
        StatusCode::UNAUTHORIZED => Code::Unauthorized,
        StatusCode::FORBIDDEN => Code::Forbidden,
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => Code::Conflict,
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Code::Usage,
        _ => Code::Failed,
    };
    let text = answer.text().await.unwrap_or_default();
    let problem: Problem = serde_json::from_str(&text).unwrap_or_default();
    let said = if problem.detail.is_empty() { problem.title } else { problem.detail };
    let mut said = if said.is_empty() { format!("the server answered {status}") } else { said };
    // One problem alone is already in the detail.
    for error in problem.errors.iter().filter(|error| !said.contains(&error.message)).collect::<Vec<_>>() {
        said.push_str(&format!("\n  {}: {}", error.field, error.message));
    }
    Failure::new(code, said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_escaped() {
        assert_eq!(escape("a b/ü?"), "a%20b%2F%C3%BC%3F");
    }

    #[test]
    fn the_next_page_is_found() {
        let check =
            |page: Value, next: Option<&str>| assert_eq!(continuation(&page).as_deref(), next, "{page}");
        check(json!({"items": []}), None);
        check(json!({"metadata": {"continue": "abc"}}), Some("abc"));
        check(json!({"metadata": {"continue": ""}}), None);
        check(json!({"continue": 7}), Some("7"));
    }
}
