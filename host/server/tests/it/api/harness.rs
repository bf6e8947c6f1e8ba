//! The API over TCP on loopback, around the world of sessions.

use crate::sessions::world::{Play, World, me};
use eventsource_stream::Eventsource;
use futures::StreamExt;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use server::{
    access::{self, Callers},
    api::{Api, Parts},
    auth::Token,
    catalogue::{Added, Catalogue, Key, Places},
    listen::{self, Hosts},
    records::InStore,
    settings::{Folder, Projects},
};
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use telemetry::{Health, Metrics, Shutdown};

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Server {
    /// Ends with the test.
    _world: World,
    pub(super) address: SocketAddr,
    pub(super) token: String,
    pub(super) health: Health,
    pub(super) catalogue: Catalogue,
    pub(super) dir: PathBuf,
    pub(super) http: Client,
}

/// What an SSE stream said: id, event name, data.
pub(super) type Said = (String, String, Value);

impl Server {
    pub(super) async fn new(play: Play) -> Self {
        Self::with(play, access::AGAIN, |token| token).await
    }

    /// With callers made of those who hold the token.
    pub(super) async fn with<C: Callers>(
        play: Play,
        again: Duration,
        callers: impl FnOnce(Token) -> C,
    ) -> Self {
        let world = World::new(play).await;
        let dir = world.dir.path().to_owned();
        let health = Health::new();
        let places = Places {
            first_party: dir.join("none"),
            added: Added::Folder(dir.join("plugins")),
            native: dir.join("native"),
            compiler: dir.join("no-compiler"),
        };
        let key = Key::open(&dir.join("key")).unwrap();
        let catalogue = Catalogue::open(places, key, health.clone()).unwrap();
        let projects = Folder::open(dir.join("settings"), health.clone()).unwrap();
        projects.create(&me(), &"p".parse().unwrap(), Default::default()).await.unwrap();
        let api = Api::new(Parts {
            sessions: world.sessions.clone(),
            broker: world.broker(),
            catalogue: catalogue.clone(),
            projects: Arc::new(projects),
            records: Arc::new(InStore),
            callers: Arc::new(callers(Token::open(&dir.join("token"), "me").unwrap())),
            health: health.clone(),
            metrics: Metrics::new(),
            shutdown: Shutdown::new(),
            again,
            confinement: protocol::exec::Confinement {
                properties: vec![],
                without_namespaces: Some("masked".to_owned()),
            },
        });
        let listener = listen::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = listen::guarded(api.router(), Hosts::of(address));
        tokio::spawn(listen::serve(listener, router, Shutdown::new()));
        let token = std::fs::read_to_string(dir.join("token")).unwrap();
        Self { _world: world, address, token, health, catalogue, dir, http: Client::new() }
    }

    pub(super) fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.address)).timeout(PATIENCE)
    }

    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.bare(method, path).bearer_auth(&self.token)
    }

    pub(super) async fn json(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        answer(self.request(method, path).json(&body).send().await.unwrap()).await
    }

    pub(super) async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.request(Method::GET, path).send().await.unwrap()).await
    }

    /// A session that was made by its specification; its path.
    pub(super) async fn create(&self, spec: Value) -> String {
        let (status, session) = self.json(Method::POST, "/api/projects/p/agentic-sessions", spec).await;
        assert_eq!(status, 201, "{session}");
        format!("/api/projects/p/agentic-sessions/{}", session["metadata"]["name"].as_str().unwrap())
    }

    /// Reads a stream until something like this came, and that too.
    pub(super) async fn until(&self, request: RequestBuilder, last: impl Fn(&Value) -> bool) -> Vec<Said> {
        let answer = request.header("accept", "text/event-stream").send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let mut events = answer.bytes_stream().eventsource();
        let mut said = vec![];
        while let Some(event) = events.next().await {
            let event = event.unwrap_or_else(|error| panic!("{error} after {said:#?}"));
            let data: Value = serde_json::from_str(&event.data).unwrap();
            let found = last(&data);
            said.push((event.id, event.event, data));
            if found {
                return said;
            }
        }
        said
    }
}

pub(super) async fn answer(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_else(|_| json!(text)))
}

pub(super) fn kinds(said: &[Said]) -> Vec<&str> {
    said.iter().map(|(_, _, data)| data["type"].as_str().unwrap_or_default()).collect()
}

/// All of the assistant's text, in order.
pub(super) fn text(said: &[Said]) -> String {
    let content = said.iter().filter(|(_, _, data)| data["type"] == "TEXT_MESSAGE_CONTENT");
    content.map(|(_, _, data)| data["delta"].as_str().unwrap_or_default()).collect()
}
