//! Answers that nobody gave, and what changes between a person's look and the effect.

use super::{finished, script, shown};
use crate::world::{World, open_approval, phase, session};
use model::{
    event::{CallOutcome, Event, Stored},
    lifecycle::Phase,
};
use reqwest::Method;
use serde_json::{Value, json};

async fn answer(world: &World, name: &str, id: &str, body: Value) -> anyhow::Result<u16> {
    let path = format!("{}/approvals/{id}", session(name));
    Ok(world.request(Method::POST, &path).json(&body).send().await?.status().as_u16())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_answer_to_what_was_asked_counts_and_once() -> anyhow::Result<()> {
    let world = World::up(&script(&[super::bash("echo ran > ran")])).await;
    for name in ["mine", "other"] {
        world.create(name, json!({ "prompt": "go" })).await?;
    }
    let asked = |log: &[Stored]| open_approval(log).is_some();
    let mine = open_approval(&world.until("mine", "approval", asked).await).expect("asked");
    let other = open_approval(&world.until("other", "approval", asked).await).expect("asked");
    let once = json!({ "decision": "once" });
    assert_ne!(mine, other, "an id says whose it is");
    assert_eq!(answer(&world, "mine", &other, once.clone()).await?, 404, "another session's");
    for forged in ["forged", "x%2f..%2fy", &format!("{mine}x"), &mine[..mine.len() - 1]] {
        assert!(matches!(answer(&world, "mine", forged, once.clone()).await?, 400 | 404 | 422), "{forged}");
    }
    for body in [
        json!({}),
        json!({ "decision": "always" }),
        json!({ "decision": "once", "subject": { "process": {} } }),
        json!({ "decision": "once", "decidedBy": "somebody else" }),
        json!([{ "decision": "once" }]),
    ] {
        assert_eq!(answer(&world, "mine", &mine, body.clone()).await?, 422, "{body}");
    }
    assert!(
        finished(&world.log("mine").await?).is_empty() && finished(&world.log("other").await?).is_empty()
    );

    // Many at once: one of them decides, and who says the same again is told that it is so.
    let deny = json!({ "decision": "deny", "reason": "no" });
    let many =
        (0..8).map(|n| answer(&world, "mine", &mine, if n % 2 == 0 { once.clone() } else { deny.clone() }));
    let statuses = join_all(many).await.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let allowed = statuses[0] == 204;
    let expected = if allowed { [204, 409] } else { [409, 204] };
    assert!(statuses.chunks(2).all(|pair| pair == expected), "{statuses:?}");
    let log = world.settled("mine").await;
    let decided = log.iter().filter(|s| matches!(s.event, Event::ApprovalDecided(_))).count();
    assert_eq!((decided, finished(&log).len()), (1, 1));
    let outcome = if allowed { CallOutcome::Done } else { CallOutcome::Denied };
    assert_eq!(finished(&log)[0].outcome, outcome);
    let other_word = if allowed { deny } else { once };
    assert_ne!(answer(&world, "mine", &mine, other_word).await?, 204, "after the end");
    assert_eq!(open_approval(&world.log("other").await?), Some(other), "the other still waits");
    Ok(())
}

/// All of them, begun together.
async fn join_all<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = all.map(|one| Some(Box::pin(one))).collect();
    let mut done: Vec<Option<T>> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (slot, result) in waiting.iter_mut().zip(&mut done) {
            if let Some(one) = slot
                && let std::task::Poll::Ready(value) = one.as_mut().poll(context)
            {
                (*slot, *result) = (None, Some(value));
            }
        }
        if waiting.iter().all(Option::is_none) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_after_it_was_shown_is_not_written_and_no_link_is_followed() -> anyhow::Result<()> {
    // A background program waits for the person to look at the change, and then puts a link in the file's place.
    let swap = |to: &str| {
        let command = format!(
            "touch ready; while [ ! -e go ]; do sleep 0.02; done; rm -rf target sub; ln -s {to} target; ln -s {to} sub; touch gone; sleep 1000"
        );
        ("Bash", json!({ "command": command, "run_in_background": true }))
    };
    let world = World::up("name: later\nrules: [{ reply: [{ text: hi }] }]\n").await;
    let outside = world.dir.path().join("outside");
    std::fs::create_dir(&outside)?;
    let calls = [
        swap(&outside.to_string_lossy()),
        super::bash("while [ ! -e ready ]; do sleep 0.02; done"),
        ("Read", json!({ "file_path": "target" })),
        ("Edit", json!({ "file_path": "target", "old_string": "before", "new_string": "after" })),
        ("Write", json!({ "file_path": "sub/file", "content": "written" })),
        ("Read", json!({ "file_path": "sub/file" })),
    ];
    let mut world = world;
    std::fs::write(world.dir.path().join("script.yaml"), script(&calls))?;
    world.stop();
    world.start().await?;
    let project = world.dir.path().join("project");
    crate::world::folder(&project, &[("target", "before\n"), ("sub/other", "x\n")]);
    world.create("swap", json!({ "prompt": "go", "workspace": { "dir": { "path": project } } })).await?;
    let asks = |n: usize| {
        move |log: &[Stored]| {
            let asked = log.iter().filter(|s| matches!(s.event, Event::ApprovalRequested(_))).count();
            asked == n && open_approval(log).is_some()
        }
    };
    for n in 1..=2 {
        let log = world.until("swap", "a program's approval", asks(n)).await;
        world.decide("swap", &open_approval(&log).expect("asked"), json!({ "decision": "once" })).await?;
    }
    let log = world.until("swap", "the edit's approval", asks(3)).await;
    let workspace = format!("{}/workspace", session("swap"));
    let put = world.request(Method::PUT, &format!("{workspace}/go")).body("").send().await?;
    assert_eq!(put.status(), 204);
    let start = std::time::Instant::now();
    while !world.get(&workspace).await?.to_string().contains("\"gone\"") {
        assert!(start.elapsed() < crate::world::PATIENCE, "the link is not put there");
    }
    world.decide("swap", &open_approval(&log).expect("asked"), json!({ "decision": "once" })).await?;
    let log = world.settled_allowing_all("swap").await;
    assert_eq!(phase(&log), Some(Phase::Completed));
    let calls = finished(&log);
    for (at, what) in [(3, "the edit"), (4, "the write"), (5, "the read")] {
        assert_ne!(calls[at].outcome, CallOutcome::Done, "{what}: {:?}", shown(&log)[at]);
    }
    assert_eq!(std::fs::read_dir(&outside)?.count(), 0, "nothing was written outside");
    assert_eq!(std::fs::read_to_string(project.join("target"))?, "before\n");
    Ok(())
}
