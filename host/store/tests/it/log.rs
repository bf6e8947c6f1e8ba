use crate::support::{record, said, state, uid};
use model::{
    event::Event,
    id::{Digest, Epoch, Seq},
    lifecycle::Phase,
};
use store::{
    AppendError, BlobError, CreateError, Durability, NewEvent, SessionRecord, Store, StoreError, verify,
};

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Durability::Process).unwrap();
    (dir, store)
}

async fn seqs(store: &Store, id: &str, after: u64) -> Vec<u64> {
    store.events(&uid(id), Seq(after), 1000).await.unwrap().iter().map(|event| event.seq.0).collect()
}

#[tokio::test]
async fn events_are_numbered_without_gaps_and_duplicates_are_dropped() {
    let (dir, store) = store();
    store.create(record("a", 1 << 20), vec![]).await.unwrap();
    let stored = store.append(&uid("a"), vec![said(1, 1, 1), said(1, 2, 1)]).await.unwrap();
    assert_eq!(stored.iter().map(|event| event.seq.0).collect::<Vec<_>>(), [1, 2]);
    let again = store.append(&uid("a"), vec![said(1, 1, 1), said(1, 2, 1), said(1, 3, 1)]).await.unwrap();
    assert_eq!(again.iter().map(|event| event.seq.0).collect::<Vec<_>>(), [3]);
    assert_eq!(seqs(&store, "a", 0).await, [1, 2, 3]);
    assert_eq!(seqs(&store, "a", 2).await, [3]);
    assert_eq!(verify(dir.path()).unwrap().problems, []);
}

#[tokio::test]
async fn large_events_come_back_whole() {
    let (_dir, store) = store();
    store.create(record("a", 1 << 20), vec![]).await.unwrap();
    let event = said(1, 1, store::INLINE_BYTES * 2);
    store.append(&uid("a"), vec![event.clone(), said(1, 2, 1)]).await.unwrap();
    let back = store.events(&uid("a"), Seq(0), 10).await.unwrap();
    assert_eq!((back.len(), &back[0].event), (2, &event.event));
}

#[tokio::test]
async fn state_and_events_change_together_and_old_epochs_are_fenced() {
    let (dir, store) = store();
    store.create(record("a", 1 << 20), vec![]).await.unwrap();
    let mut next = state();
    next.phase = Phase::Failed;
    (next.epoch, next.fence) = (Epoch(2), Epoch(2));
    let late = vec![said(1, 1, 1)];
    store.commit(&uid("a"), vec![], next.clone()).await.unwrap();
    let fenced = store.commit(&uid("a"), late, state()).await.unwrap_err();
    assert!(matches!(fenced, AppendError::Fenced { epoch: Epoch(1) }), "{fenced}");
    assert_eq!(store.session_by_uid(&uid("a")).await.unwrap().unwrap().state, next);
    drop(store);
    let store = Store::open(dir.path(), Durability::Process).unwrap();
    let fenced = store.append(&uid("a"), vec![said(1, 1, 1)]).await;
    assert!(matches!(fenced, Err(AppendError::Fenced { .. })));
    assert_eq!(seqs(&store, "a", 0).await, [0u64; 0]);
}

#[tokio::test]
async fn a_quota_holds_runners_back_and_leaves_the_server_room() {
    let (_dir, store) = store();
    store.create(record("a", 1000), vec![]).await.unwrap();
    store.append(&uid("a"), vec![said(1, 1, 800)]).await.unwrap();
    let over = store.append(&uid("a"), vec![said(1, 2, 800)]).await;
    assert!(matches!(over, Err(AppendError::Quota { limit: 1000 })));
    let own =
        Event::Warning(model::event::Warning { reason: "Full".into(), message: "x".repeat(2000).into() });
    store.append(&uid("a"), vec![NewEvent::from(own)]).await.unwrap();
    assert_eq!(seqs(&store, "a", 0).await, [1, 2]);
}

#[tokio::test]
async fn refusals_in_a_batch_leave_the_others_alone() {
    let (dir, store) = store();
    store.create(record("a", 1000), vec![]).await.unwrap();
    let writes = (0..200u64).map(|n| {
        let store = store.clone();
        let bytes = if n % 2 == 0 { 1 } else { 2000 };
        let id = if n % 10 == 0 { "gone" } else { "a" };
        tokio::spawn(async move { store.append(&uid(id), vec![said(1, n, bytes)]).await.is_ok() })
    });
    let results = futures::future::join_all(writes).await;
    let written = results.into_iter().filter(|result| *result.as_ref().unwrap()).count();
    assert_eq!(seqs(&store, "a", 0).await.len(), written);
    // Not verified for order: tasks raced each other to the queue.
    let problems = verify(dir.path()).unwrap().problems;
    assert!(problems.iter().all(|problem| problem.what.contains("was due")), "{problems:?}");
}

#[tokio::test]
async fn a_tail_wakes_after_the_commit_and_ends_with_the_session() {
    let (_dir, store) = store();
    store.create(record("a", 1 << 20), vec![]).await.unwrap();
    store.append(&uid("a"), vec![said(1, 1, 1)]).await.unwrap();
    let mut tail = store.tail(&uid("a")).await.unwrap();
    assert_eq!(*tail.borrow_and_update(), Seq(1));
    store.append(&uid("a"), vec![said(1, 2, 1), said(1, 3, 1)]).await.unwrap();
    tail.changed().await.unwrap();
    assert_eq!(*tail.borrow_and_update(), Seq(3));
    store.delete(&uid("a")).await.unwrap();
    assert!(tail.changed().await.is_err());
    assert!(matches!(store.append(&uid("a"), vec![]).await, Err(AppendError::Gone)));
}

#[tokio::test]
async fn names_are_unique_and_a_deleted_one_is_free() {
    let (_dir, store) = store();
    store.create(record("a", 1), vec![]).await.unwrap();
    let mut twin = record("a", 1);
    twin.uid = uid("b");
    assert!(matches!(store.create(twin.clone(), vec![]).await, Err(CreateError::Taken)));
    store.delete(&uid("a")).await.unwrap();
    store.create(twin.clone(), vec![]).await.unwrap();
    assert_eq!(store.session(&twin.reference).await.unwrap().unwrap(), twin);
    assert_eq!(store.sessions(None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn blobs_are_what_their_digest_says_and_belong_to_sessions() {
    let (_dir, store) = store();
    store.create(record("a", 1), vec![]).await.unwrap();
    let digest = store.put_blob(Some(&uid("a")), b"hello".to_vec()).await.unwrap();
    assert_eq!(digest, Digest::of(b"hello"));
    assert_eq!(store.get_blob(&digest, 100).await.unwrap(), b"hello");
    assert!(matches!(store.get_blob(&digest, 4).await, Err(BlobError::TooLarge { max: 4 })));
    assert!(store.owns_blob(&uid("a"), &digest).await.unwrap());
    assert!(!store.owns_blob(&uid("b"), &digest).await.unwrap());
    assert_eq!(store.blob_bytes(&uid("a")).await.unwrap(), 5);

    let mut writer = store.blob_writer(3).await.unwrap();
    writer.write(b"abc".to_vec()).await.unwrap();
    assert!(matches!(writer.write(b"d".to_vec()).await, Err(BlobError::TooLarge { max: 3 })));
    let mut writer = store.blob_writer(3).await.unwrap();
    writer.write(b"abc".to_vec()).await.unwrap();
    assert!(matches!(writer.finish(None, Some(&digest)).await, Err(BlobError::WrongDigest)));
    // Too young to be collected, whoever owns it.
    assert_eq!(store.collect_blobs().await.unwrap(), (0, 0));
}

#[tokio::test]
async fn a_digest_opens_blobs_of_its_own_project_only() {
    async fn check(store: &Store, project: &str, digest: &Digest, expected: bool) {
        let (name, of) = (project.parse().unwrap(), format!("{project}-1").parse().unwrap());
        let project = (&name, &of);
        assert_eq!(store.has_blob(project, digest).await.unwrap(), expected, "{project:?} {digest}");
        let kept = store.keep_blob(&uid("b"), project, digest).await;
        assert_eq!(kept.is_ok(), expected, "{project:?} {digest}: {kept:?}");
        assert!(expected || matches!(kept, Err(BlobError::NotFound)), "{kept:?}");
    }
    let (dir, store) = store();
    // A data folder of a release that did not know of it.
    drop(store);
    let old = rusqlite::Connection::open(dir.path().join("vteam.db")).unwrap();
    old.execute_batch("DROP TABLE blob_project").unwrap();
    drop(old);
    let store = Store::open(dir.path(), Durability::Process).unwrap();
    store.create(record("a", 1), vec![]).await.unwrap();
    let mut writer = store.blob_writer(9).await.unwrap();
    writer.write(b"archive".to_vec()).await.unwrap();
    let upload = writer.finish_upload(&"p-1".parse().unwrap()).await.unwrap().digest;
    let snapshot = store.put_blob(Some(&uid("a")), b"snapshot".to_vec()).await.unwrap();
    let unsaid = store.put_blob(None, b"of nobody".to_vec()).await.unwrap();
    // Where no session of that project came to be, its name gives nothing.
    let orphan = store.put_blob(Some(&uid("orphan")), b"orphan".to_vec()).await.unwrap();
    drop(store);
    let store = Store::open(dir.path(), Durability::Process).unwrap();
    for digest in [&upload, &snapshot] {
        check(&store, "q", digest, false).await;
        check(&store, "p", digest, true).await;
        check(&store, "q", digest, false).await;
    }
    for digest in [&unsaid, &orphan, &Digest::of(b"no")] {
        check(&store, "p", digest, false).await;
    }
    store.delete(&uid("a")).await.unwrap();
    check(&store, "p", &snapshot, false).await;
    check(&store, "p", &upload, true).await;
    // Another project that has the name by now, also while a session of the one before is still there.
    let (name, next) = ("p".parse().unwrap(), "p-2".parse().unwrap());
    let of_first = SessionRecord { project_uid: Some("p-1".parse().unwrap()), ..record("late", 1) };
    store.create(of_first, vec![]).await.unwrap();
    let late = store.put_blob(Some(&uid("late")), b"late".to_vec()).await.unwrap();
    check(&store, "p", &late, true).await;
    store.delete(&uid("b")).await.unwrap();
    for digest in [&upload, &late] {
        assert!(!store.has_blob((&name, &next), digest).await.unwrap());
    }
}

#[tokio::test]
async fn a_backup_is_a_store() {
    let (_dir, store) = store();
    store.create(record("a", 1 << 20), vec![]).await.unwrap();
    store.append(&uid("a"), vec![said(1, 1, 100_000)]).await.unwrap();
    let digest = store.put_blob(Some(&uid("a")), b"hello".to_vec()).await.unwrap();
    let to = tempfile::tempdir().unwrap();
    let place = to.path().join("copy");
    store.backup(&place).await.unwrap();
    assert!(matches!(store.backup(&place).await, Err(StoreError::NotEmpty(_))));
    let copy = Store::open(&place, Durability::Process).unwrap();
    assert_eq!(
        copy.events(&uid("a"), Seq(0), 9).await.unwrap(),
        store.events(&uid("a"), Seq(0), 9).await.unwrap()
    );
    assert_eq!(copy.get_blob(&digest, 9).await.unwrap(), b"hello");
    assert_eq!(verify(&place).unwrap().problems, []);
}

#[tokio::test]
async fn one_server_holds_a_folder() {
    let (dir, _store) = store();
    assert!(matches!(Store::open(dir.path(), Durability::Process), Err(StoreError::InUse)));
}
