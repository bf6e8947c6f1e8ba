//! From append to a woken subscriber that has read the event: one at a time, and many sessions at once.
#![expect(clippy::unwrap_used, reason = "a benchmark's helper fails like the benchmark")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::future::join_all;
use model::{
    event::{Event, Unknown},
    id::{SessionRef, SessionUid, UnixMillis},
};
use store::{Durability, NewEvent, SessionRecord, Store};

const SESSIONS: usize = 64;

fn record(uid: &SessionUid) -> SessionRecord {
    let state = serde_json::json!({
        "phase": "Pending", "reason": "Accepted", "desired": "Run", "updatedAt": 1, "epoch": 0, "fence": 0,
    });
    SessionRecord {
        uid: uid.clone(),
        reference: SessionRef { project: "p".parse().unwrap(), name: uid.as_str().parse().unwrap() },
        project_uid: None,
        created_at: UnixMillis(1),
        created_by: "bench".into(),
        labels: Default::default(),
        spec: serde_json::Value::Null,
        event_bytes: u64::MAX >> 1,
        state: serde_json::from_value(state).unwrap(),
    }
}

fn event() -> NewEvent {
    Event::Unknown(Unknown { kind: "bench".into(), data: "x".repeat(200).into() }).into()
}

/// Appends, waits for the wake-up, and reads what woke.
async fn round(store: &Store, uid: &SessionUid) {
    let mut tail = store.tail(uid).await.unwrap();
    let before = *tail.borrow_and_update();
    store.append(uid, vec![event()]).await.unwrap();
    tail.changed().await.unwrap();
    assert_eq!(store.events(uid, before, 10).await.unwrap().len(), 1);
}

fn append(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = Store::open(dir.path(), Durability::Full).unwrap();
    let uids: Vec<SessionUid> = (0..SESSIONS).map(|n| format!("s{n}").parse().unwrap()).collect();
    for uid in &uids {
        runtime.block_on(store.create(record(uid), vec![])).unwrap();
    }
    let mut group = criterion.benchmark_group("append to subscriber");
    group.bench_function("single", |bench| {
        bench.to_async(&runtime).iter(|| async { round(&store, uids.first().unwrap()).await });
    });
    group.throughput(Throughput::Elements(SESSIONS as u64));
    group.bench_function("64 sessions at once", |bench| {
        bench.to_async(&runtime).iter(|| async { join_all(uids.iter().map(|uid| round(&store, uid))).await });
    });
    group.finish();
}

criterion_group!(benches, append);
criterion_main!(benches);
