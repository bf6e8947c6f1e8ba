use super::{
    fake::{Fake, Over, finished, intended},
    world::{Play, Stage, World, diligent, play, spec, told},
};
use model::{
    event::{CallOutcome, Event, RunEnd},
    lifecycle::{Phase, Reason},
    message::Block,
};
use protocol::control::{FromRunner, FromServer, Resume};
use std::time::Duration;

#[tokio::test]
async fn a_lost_runner_is_followed_by_another() {
    let world = World::new(play(|stage| async move {
        let mut fake = Fake::bound(&stage.socket, &stage.token).await?;
        let run = fake.open_run().await.unwrap();
        if stage.epoch.0 == 1 {
            // The process ends in the middle of a call.
            return fake.record(vec![intended(&run, "c1")]).await;
        }
        fake.record(vec![finished(&run, "c1", CallOutcome::Lost)]).await?;
        fake.end(&run, RunEnd::Done).await?;
        fake.until(|_| None::<()>).await
    }))
    .await;
    let session = world.create(spec()).await.record;
    let events = world.until_phase(&session.uid, Phase::Completed).await;
    let told = told(&events);
    let at = told.iter().position(|line| line == "lost 1").unwrap();
    assert_eq!(told[at..at + 4], ["lost 1", "Pending RunnerLost", "Creating RunnerStarting", "bound 2"]);
    world.verify();
}

#[tokio::test]
async fn but_not_for_ever() {
    let world =
        World::new(play(|stage| async move { Fake::bound(&stage.socket, &stage.token).await.map(drop) }))
            .await;
    let session = world.create(spec()).await.record;
    let events = world.until_phase(&session.uid, Phase::Failed).await;
    let told = told(&events);
    assert_eq!(told.iter().filter(|line| line.starts_with("lost")).count(), 3);
    assert_eq!(told[told.len() - 1], "Failed RunnerCrashLoop");
    world.verify();
}

#[tokio::test]
async fn a_runner_that_never_dials_in_is_given_up() {
    let silent = play(|stage| async move {
        if stage.epoch.0 == 1 { std::future::pending().await } else { work(stage).await }
    });
    let settings =
        server::sessions::Settings { start_timeout: Duration::from_millis(50), ..super::world::settings() };
    let world = World::with(silent, settings).await;
    let session = world.create(spec()).await.record;
    let events = world.until_phase(&session.uid, Phase::Completed).await;
    assert!(told(&events).contains(&"lost 1".to_owned()));
}

async fn work(stage: Stage) -> Result<(), Over> {
    diligent()(stage).await;
    Ok(())
}

#[tokio::test]
async fn a_connection_that_breaks_is_resumed_without_loss_or_doubling() {
    let world = World::new(play(|stage| async move {
        let mut fake = Fake::bound(&stage.socket, &stage.token).await?;
        let run = fake.open_run().await.unwrap();
        fake.message(&run, "one").await?;
        let (binding, seq) = (fake.binding.clone(), fake.seq);
        // Gone without a word, and everything is said again.
        drop(fake);
        let mut fake = Fake::dial(&stage.socket, &stage.token).await?;
        fake.binding = binding;
        fake.hello(Some(Resume { epoch: stage.epoch, runner_seq: model::id::RunnerSeq(seq) })).await?;
        fake.message(&run, "one").await?;
        fake.message(&run, "two").await?;
        fake.end(&run, RunEnd::Done).await?;
        fake.until(|_| None::<()>).await
    }))
    .await;
    let session = world.create(spec()).await.record;
    let events = world.until_phase(&session.uid, Phase::Completed).await;
    assert_eq!(events.iter().filter(|event| matches!(event, Event::AssistantMessage(_))).count(), 2);
    assert!(!told(&events).iter().any(|line| line.starts_with("lost")), "{:?}", told(&events));
    world.verify();
}

/// Says ten messages, reconnecting for as long as it takes, and ends when it is told to.
fn stubborn() -> Play {
    play(|stage| async move {
        let mut fake = reconnect(&stage, None).await?;
        let Some(run) = fake.open_run().await else { return wait_for_drain(fake, &stage).await };
        let said =
            fake.history().await.iter().filter(|e| matches!(e.event, Event::AssistantMessage(_))).count();
        for n in said..10 {
            loop {
                let seq = fake.seq;
                if fake.message(&run, &n.to_string()).await.is_ok() {
                    break;
                }
                fake = reconnect(&stage, Some((&fake, seq))).await?;
            }
        }
        loop {
            let seq = fake.seq;
            if fake.end(&run, RunEnd::Done).await.is_ok() {
                return wait_for_drain(fake, &stage).await;
            }
            fake = reconnect(&stage, Some((&fake, seq))).await?;
        }
    })
}

async fn wait_for_drain(mut fake: Fake, stage: &Stage) -> Result<(), Over> {
    loop {
        let drained = fake.until(|message| matches!(message, FromServer::Drain { .. }).then_some(())).await;
        if drained.is_ok() {
            return fake.say(&FromRunner::Bye { message: "".into() }).await;
        }
        let seq = fake.seq;
        fake = reconnect(stage, Some((&fake, seq))).await?;
    }
}

/// Dials until a server answers; refused means the end.
async fn reconnect(stage: &Stage, from: Option<(&Fake, u64)>) -> Result<Fake, Over> {
    loop {
        let Some((before, committed)) = from else {
            match Fake::bound(&stage.socket, &stage.token).await {
                Err(Over(why)) if why.contains("over") || why.contains("does not run") => {
                    return Err(Over(why));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
                Ok(fake) => return Ok(fake),
            }
            continue;
        };
        let Ok(mut fake) = Fake::dial(&stage.socket, &stage.token).await else {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        };
        let resume = Resume { epoch: stage.epoch, runner_seq: model::id::RunnerSeq(before.seq) };
        match fake.hello(Some(resume)).await {
            Err(Over(why)) if why.contains("over") || why.contains("does not run") => return Err(Over(why)),
            Err(_) => continue,
            Ok(()) => {}
        }
        fake.binding.clone_from(&before.binding);
        fake.seq = committed;
        return Ok(fake);
    }
}

#[tokio::test]
async fn killed_servers_and_runners_lose_and_double_nothing() {
    for seed in 0..20u64 {
        let mut world = World::new(stubborn()).await;
        let session = world.create(spec()).await.record;
        let mut random = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        for _ in 0..3 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let wanted = (random >> 33) as usize % 8 + 2;
            let messages = std::sync::atomic::AtomicUsize::new(0);
            world
                .until(&session.uid, |event| {
                    let ended = matches!(event, Event::RunFinished(_));
                    let said = matches!(event, Event::AssistantMessage(_) | Event::RunnerBound(_));
                    ended || said && messages.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1 >= wanted
                })
                .await;
            if random >> 40 & 1 == 0 {
                let epoch = world.view(&session.reference).await.record.state.epoch.0;
                world.kill_runner(&session.uid, epoch).await;
            } else {
                world = world.restart(stubborn()).await;
            }
        }
        let events = world.until_phase(&session.uid, Phase::Completed).await;
        let said: Vec<String> = events
            .iter()
            .filter_map(|event| match event {
                Event::AssistantMessage(message) => match message.content.as_slice() {
                    [Block::Text { text }] => Some(text.raw().to_owned()),
                    other => panic!("{other:?}"),
                },
                _ => None,
            })
            .collect();
        let expected: Vec<String> = (0..10).map(|n| n.to_string()).collect();
        assert_eq!(said, expected, "seed {seed}: {:?}", told(&events));
        let state = world.view(&session.reference).await.record.state;
        assert_eq!(state.reason, Reason::Finished, "seed {seed}");
        world.verify();
    }
}
