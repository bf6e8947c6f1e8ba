//! What the log says of who did what.

use super::harness::Server;
use crate::sessions::world::diligent;
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    io,
    sync::{Arc, Mutex},
};
use tracing_subscriber::{fmt::MakeWriter, util::SubscriberInitExt as _};

/// The log, kept.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Lines {
    fn audited(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["target"] == "audit").collect()
    }
}

#[tokio::test]
async fn who_changes_something_or_is_refused_is_on_record() {
    let lines = Lines::default();
    // While there is one subscriber alone, a line that another test's thread comes to first is off for all threads.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    // Of this thread, on which the server of this test runs too.
    let _guard =
        tracing_subscriber::fmt().json().flatten_event(true).with_writer(lines.clone()).set_default();
    let server = Server::new(diligent()).await;
    let sessions = "/api/projects/p/agentic-sessions";
    let one =
        server.create(json!({"metadata": {"generateName": "s-"}, "spec": {"prompt": "the prompt"}})).await;
    let name = one.rsplit('/').next().unwrap();
    server.get(&one).await;
    server.json(Method::POST, sessions, json!({"promt": "x"})).await;
    server.bare(Method::GET, &one).send().await.unwrap();
    server.bare(Method::DELETE, &one).bearer_auth("wrong").send().await.unwrap();
    server.json(Method::POST, "/api/projects", json!({"name": "q"})).await;
    server.request(Method::DELETE, &one).send().await.unwrap();

    let about = |line: &Value| {
        let text = |field: &str| line[field].as_str().unwrap().to_owned();
        format!(
            "{} {} {} {} {} {}",
            text("who"),
            text("verb"),
            text("resource"),
            text("session"),
            text("outcome"),
            line["status"]
        )
    };
    let seen: Vec<String> = lines.audited().iter().map(about).collect();
    assert_eq!(
        seen,
        [
            format!("me create agenticsessions p/{name} done 201"),
            "me create agenticsessions  failed 422".to_owned(),
            format!("unknown get agenticsessions p/{name} refused 401"),
            format!("unknown delete agenticsessions p/{name} refused 401"),
            "me    done 201".to_owned(),
            format!("me delete agenticsessions p/{name} done 204"),
        ]
    );
    let first = &lines.audited()[0];
    assert_eq!(first["route"], "/api/projects/{project}/agentic-sessions");
    assert_eq!((&first["method"], &first["project"]), (&json!("POST"), &json!("p")));
    assert!(!first.to_string().contains("the prompt") && !first.to_string().contains(&server.token));
}
