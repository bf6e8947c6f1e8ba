use super::harness::{PATIENCE, Server, answer, kinds, text};
use crate::sessions::{
    fake::{Fake, intended},
    people::fetch_approval,
    world::{World, diligent, next_work, play, spec},
};
use futures::StreamExt as _;
use model::{
    event::{AssistantMessage, Event, Live, RunEnd},
    id::{RunId, Seq},
    message::{Block, Delta, StopReason},
    reading::Reading,
};
use protocol::control::{FromRunner, FromServer};
use reqwest::Method;
use serde_json::{Value, json};
use server::sessions::Tail;
use std::sync::Arc;
use tokio::sync::Notify;

fn ends(data: &Value) -> bool {
    matches!(data["type"].as_str(), Some("RUN_FINISHED" | "RUN_ERROR"))
}

async fn says(fake: &mut Fake, run: &RunId, chunk: Option<&str>) {
    let message = "m1".parse().unwrap();
    let live = match chunk {
        None => Live::BlockStarted { run: run.clone(), message, index: 0, block: Block::text("") },
        Some(text) => Live::MessageDelta {
            run: run.clone(),
            message,
            index: 0,
            delta: Delta::Text { text: text.into() },
        },
    };
    fake.say(&FromRunner::Live { live }).await.unwrap();
}

/// Says half of a message live, waits, then the rest, and the whole of it for the log.
#[tokio::test]
async fn a_stream_that_is_cut_in_mid_message_goes_on_without_doubling() {
    let (dial, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (dialled, going) = (dial.clone(), go.clone());
    let server = Server::new(play(move |stage| {
        let (dial, go) = (dialled.clone(), going.clone());
        async move {
            dial.notified().await;
            let mut fake = Fake::bound(&stage.socket, &stage.token).await?;
            let run = fake.open_run().await.unwrap();
            says(&mut fake, &run, None).await;
            says(&mut fake, &run, Some("Hel")).await;
            go.notified().await;
            says(&mut fake, &run, Some("lo ")).await;
            says(&mut fake, &run, Some("you")).await;
            fake.record(vec![Event::AssistantMessage(AssistantMessage {
                run: run.clone(),
                message: "m1".parse().unwrap(),
                model: "none".to_owned(),
                content: vec![Block::text("Hello you")],
                stop_reason: StopReason::EndTurn,
            })])
            .await?;
            fake.end(&run, RunEnd::Done).await?;
            fake.until(|_| None::<()>).await
        }
    }))
    .await;
    let session = server.create(json!({"prompt": "say it"})).await;
    let events = format!("{session}/agui/events");
    let first = server.request(Method::GET, &events);
    dial.notify_one();
    let first = server.until(first, |data| data["delta"] == "Hel").await;
    let last = first.last().unwrap().0.clone();
    // Who joins only now has the beginning too, here and in the log's own stream.
    let late = server.until(server.request(Method::GET, &events), |data| data["delta"] == "Hel").await;
    assert_eq!(kinds(&late)[late.len() - 2..], ["TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT"], "{late:#?}");
    let raw = server.request(Method::GET, &format!("{session}/events?after=2"));
    let raw = server.until(raw, |data| data["data"]["delta"]["text"] == "Hel").await;
    assert_eq!(raw[raw.len() - 2].2["kind"], "blockStarted", "{raw:#?}");
    let joined = server.request(Method::GET, &events);
    let joined = async { server.until(joined, ends).await };
    let resumed = async {
        go.notify_one();
        let again = server.request(Method::GET, &events).header("last-event-id", &last);
        server.until(again, ends).await
    };
    let (joined, again) = tokio::join!(joined, resumed);
    assert_eq!(text(&joined), "say itHello you");
    assert_eq!(kinds(&again)[..2], ["RUN_STARTED", "TEXT_MESSAGE_START"], "{again:#?}");
    let said = |said: &[_]| text(said).replace("say it", "");
    assert_eq!(said(&first) + &said(&again), "Hello you");

    let fresh = server.until(server.request(Method::GET, &events), ends).await;
    assert_eq!(text(&fresh), "say itHello you");
    assert!(fresh.last().unwrap().0.parse::<u64>().is_ok(), "{fresh:#?}");
}

/// More than is kept for a reader that is behind.
const FLOOD: usize = 5000;

#[tokio::test]
async fn a_reader_that_was_too_slow_is_told_the_message_again() {
    let (dial, said) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (dialled, told) = (dial.clone(), said.clone());
    let world = World::new(play(move |stage| {
        let (dial, said) = (dialled.clone(), told.clone());
        async move {
            dial.notified().await;
            let mut fake = Fake::bound(&stage.socket, &stage.token).await?;
            let run = fake.open_run().await.unwrap();
            says(&mut fake, &run, None).await;
            for _ in 0..FLOOD {
                says(&mut fake, &run, Some("x")).await;
            }
            // Dealt with after all of those.
            fake.record(vec![intended(&run, "c1")]).await?;
            said.notify_one();
            fake.until(|_| None::<()>).await
        }
    }))
    .await;
    let uid = world.create(spec()).await.record.uid;
    let mut tail = Box::pin(world.sessions.tail(&uid, Seq(0)));
    // It has joined.
    assert!(tail.next().await.is_some());
    dial.notify_one();
    said.notified().await;
    let (mut reading, mut begun, mut read) = (Reading::default(), 0, 0);
    while read < FLOOD {
        let next = tokio::time::timeout(PATIENCE, tail.next()).await.unwrap();
        let Some(Tail::Live(live)) = next else { continue };
        match *live {
            Live::BlockStarted { index, .. } => {
                begun += 1;
                reading.begin(index);
            }
            Live::MessageDelta { index, delta: Delta::Text { text }, .. } => {
                read += reading.news(index, text.raw()).map_or(0, str::len);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((read, begun), (FLOOD, 1), "what was missed comes in one piece");
}

#[tokio::test]
async fn a_run_ends_with_an_interrupt_and_is_resumed() {
    let server = Server::new(play(|stage| async move {
        let mut fake = Fake::bound(&stage.socket, &stage.token).await?;
        loop {
            let run = match fake.open_run().await {
                Some(run) => run,
                None => match next_work(&mut fake).await? {
                    FromServer::Drain { .. } => {
                        return fake.say(&FromRunner::Bye { message: "".into() }).await;
                    }
                    _ => continue,
                },
            };
            fake.say(&FromRunner::Ask { ask: fetch_approval("c1", "https://a.example/x") }).await?;
            fake.until(|message| matches!(message, FromServer::Decided { .. }).then_some(())).await?;
            fake.message(&run, "thanks").await?;
            fake.end(&run, RunEnd::Done).await?;
        }
    }))
    .await;
    let session = server.create(json!({"interactive": true})).await;
    let input = json!({"threadId": "t", "runId": "mine", "messages": [{"id": "1", "role": "user", "content": "go"}], "tools": [], "context": []});
    let request = server.request(Method::POST, &format!("{session}/agui/run")).json(&input);
    let said = server.until(request, |_| false).await;
    let last = &said.last().unwrap().2;
    assert_eq!(last["outcome"]["type"], "interrupt", "{said:#?}");
    assert_eq!((last["runId"].as_str(), last["threadId"].as_str()), (Some("mine"), Some("t")));
    let interrupt = &last["outcome"]["interrupts"][0];
    assert_eq!(interrupt["message"], "GET https://a.example/x");

    let (_, pending) = server.get(&format!("{session}/approvals")).await;
    assert_eq!(pending["items"][0]["rendered"], "GET https://a.example/x");
    assert_eq!(pending["items"][0]["data"]["id"], interrupt["id"]);
    let (_, shown) = server.get(&session).await;
    let (name, ask) = (session.rsplit('/').next().unwrap(), interrupt["id"].as_str().unwrap());
    let how = format!("1 waiting: vteam --project p sessions approve {name} {ask}");
    assert_eq!(shown["status"]["message"], how);
    let resume = json!({"threadId": "t", "runId": "again", "messages": [], "resume": [{"interruptId": interrupt["id"], "status": "resolved", "payload": {"decision": "once"}}]});
    let request = server.request(Method::POST, &format!("{session}/agui/run")).json(&resume);
    let said = server.until(request, |_| false).await;
    assert_eq!(text(&said), "thanks", "{said:#?}");
    assert_eq!(said.last().unwrap().2["outcome"]["type"], "success");
    let (status, _) =
        server.json(Method::POST, &format!("{session}/approvals/ask-c1"), json!({"decision": "deny"})).await;
    assert!(matches!(status, 404 | 409), "{status}");
}

#[tokio::test]
async fn a_session_is_worked_on_shown_exported_and_deleted() {
    let server = Server::new(diligent()).await;
    let spec = json!({"apiVersion": resources::API_VERSION, "kind": "AgenticSession", "metadata": {"name": "one"},
        "spec": {"prompt": "do", "llmSettings": {"temperature": 0.7}}});
    let session = server.create(spec).await;
    let watched = server.until(server.request(Method::GET, &format!("{session}/agui/events")), ends).await;
    assert_eq!(text(&watched), "dodone");
    let status = loop {
        let (_, got) = server.get(&session).await;
        if got["status"]["phase"] == "Completed" {
            break got;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(status["status"]["conditions"][0]["type"], "TemperatureDropped", "{status}");
    assert_eq!(status["metadata"]["annotations"]["vteam.ambient-code/created-by"], "me");

    let (_, page) = server.get(&format!("{session}/events?limit=2")).await;
    assert_eq!(
        (page["items"][1]["seq"].as_u64(), page["metadata"]["continue"].as_str()),
        (Some(2), Some("2"))
    );
    let raw = server
        .until(server.request(Method::GET, &format!("{session}/events?after=2")), |data| {
            data["kind"] == "run.finished"
        })
        .await;
    assert_eq!(raw[0].0, "3");

    // At rest already: nothing is changed by a stop.
    let (stopped, rest) = server.json(Method::POST, &format!("{session}/stop"), json!({})).await;
    assert_eq!((stopped, rest["status"]["phase"].as_str()), (200, Some("Completed")), "{rest}");
    let (_, after) = server.get(&session).await;
    assert_eq!(after["status"]["lastActivityTime"], rest["status"]["lastActivityTime"]);

    let diff = server.request(Method::GET, &format!("{session}/diff")).send().await.unwrap();
    for (name, value) in [
        ("content-disposition", "attachment"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "sandbox"),
    ] {
        assert!(diff.headers()[name].to_str().unwrap().contains(value), "{:?}", diff.headers());
    }
    assert_eq!(diff.text().await.unwrap(), "the diff");
    let file = server.request(Method::GET, &format!("{session}/workspace/src/new.txt")).send().await.unwrap();
    assert_eq!(file.text().await.unwrap(), "new");
    let (status, problem) = server.get(&format!("{session}/archive")).await;
    assert_eq!((status, problem["type"].as_str()), (409, Some("urn:vteam:problem:not-awake")), "{problem}");

    let export =
        server.request(Method::GET, &format!("{session}/export")).send().await.unwrap().text().await.unwrap();
    let lines: Vec<Value> = export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines[0]["kind"].as_str(), lines[1]["seq"].as_u64()), (Some("AgenticSession"), Some(1)));

    let (status, copy) = server.json(Method::POST, &format!("{session}/clone"), json!({})).await;
    assert!(status == 201 && copy["metadata"]["name"].as_str().unwrap().starts_with("one-"), "{copy}");
    let (status, sent) =
        server.json(Method::POST, &format!("{session}/agui/run"), json!({"message": "more"})).await;
    assert!(status == 202 && sent["runId"].is_string(), "{sent}");
    let (_, list) = server.get("/api/projects/p/agentic-sessions?limit=1").await;
    let next = list["metadata"]["continue"].as_str().unwrap();
    let (_, second) = server.get(&format!("/api/projects/p/agentic-sessions?continue={next}")).await;
    assert_eq!(second["items"].as_array().unwrap().len(), 1, "{second}");
    assert_ne!(second["items"][0]["metadata"]["name"], list["items"][0]["metadata"]["name"]);

    assert_eq!(answer(server.request(Method::DELETE, "/api/projects/p").send().await.unwrap()).await.0, 409);
    assert_eq!(server.request(Method::DELETE, &session).send().await.unwrap().status(), 204);
    assert_eq!(server.get(&session).await.0, 404);
}
