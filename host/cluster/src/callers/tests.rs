use super::*;
use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing::post};
use serde_json::{Value, json};

/// What the API server was asked: `who` or `may`, and by which token.
type Asked = Arc<Mutex<Vec<(&'static str, String)>>>;

/// Knows the tokens `ada` and `bob`, of whom `ada` may do everything.
async fn api_server() -> (Clients, Asked) {
    let asked = Asked::default();
    let app = Router::new()
        .route("/apis/authentication.k8s.io/v1/selfsubjectreviews", post(who))
        .route("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", post(may))
        .with_state(asked.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    // The first one that may.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    (Clients::new(Config::new(url.parse().unwrap())).unwrap(), asked)
}

fn note(asked: &Asked, what: &'static str, headers: &HeaderMap) -> Option<String> {
    let token = auth::bearer(headers).unwrap_or_default().to_owned();
    asked.lock().unwrap().push((what, token.clone()));
    Some(token).filter(|token| ["ada", "bob"].contains(&token.as_str()))
}

fn unknown() -> axum::response::Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Unauthorized", "code": 401});
    (StatusCode::UNAUTHORIZED, Json(status)).into_response()
}

async fn who(
    State(asked): State<Asked>,
    headers: HeaderMap,
    Json(mut review): Json<Value>,
) -> impl IntoResponse {
    let Some(name) = note(&asked, "who", &headers) else { return unknown() };
    review["status"] = json!({"userInfo": {"username": name}});
    (StatusCode::CREATED, Json(review)).into_response()
}

async fn may(
    State(asked): State<Asked>,
    headers: HeaderMap,
    Json(mut review): Json<Value>,
) -> impl IntoResponse {
    let Some(name) = note(&asked, "may", &headers) else { return unknown() };
    review["status"] = json!({"allowed": name == "ada"});
    (StatusCode::CREATED, Json(review)).into_response()
}

fn headers(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(http::header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    headers
}

fn access(verb: &'static str) -> Access {
    Access { verb, resource: "agenticsessions", project: "p".parse().unwrap(), name: None }
}

/// The status of what is refused, or who was let in.
async fn admitted(clients: &Clients, token: &str, verb: &'static str) -> Result<String, u16> {
    let admission = clients.admit(&headers(token), &access(verb)).await;
    let (caller, leave) = admission.map_err(|problem| problem.status)?;
    leave.map(|()| caller.name.raw().to_owned()).map_err(|problem| problem.status)
}

fn taken(asked: &Asked) -> Vec<(&'static str, String)> {
    let mut all = std::mem::take(&mut *asked.lock().unwrap());
    // What is asked at once comes in any order.
    all.sort();
    all
}

#[tokio::test]
async fn an_answer_counts_for_its_token_and_question_only() {
    let (clients, asked) = api_server().await;
    let of = |what, who: &str| (what, who.to_owned());
    assert_eq!(admitted(&clients, "ada", "get").await.as_deref(), Ok("ada"));
    assert_eq!(taken(&asked), [of("may", "ada"), of("who", "ada")]);
    assert_eq!(admitted(&clients, "ada", "get").await.as_deref(), Ok("ada"));
    assert_eq!(taken(&asked), [], "it was answered a moment ago");
    assert_eq!(admitted(&clients, "ada", "delete").await.as_deref(), Ok("ada"));
    assert_eq!(taken(&asked), [of("may", "ada")], "another question");
    assert_eq!(admitted(&clients, "bob", "get").await, Err(403), "ada's answer is not bob's");
    assert_eq!(taken(&asked), [of("may", "bob"), of("who", "bob")]);
    assert_eq!(admitted(&clients, "bob", "get").await, Err(403));
    assert_eq!(taken(&asked), [], "a no counts as long");
}

#[tokio::test]
async fn a_made_up_token_costs_one_question_and_leaves_nothing() {
    let (clients, asked) = api_server().await;
    for n in 0..3 {
        assert_eq!(admitted(&clients, "eve", "get").await, Err(401));
        assert_eq!(taken(&asked), [("who", "eve".to_owned())], "try {n}");
    }
    assert!(clients.known().is_empty());
    let missing = clients.identify(&HeaderMap::new()).await.err().map(|problem| problem.status);
    assert_eq!((missing, taken(&asked)), (Some(401), vec![]), "nobody is asked about no token");
    // Whoever is known already waits for no turn of theirs.
    assert_eq!(admitted(&clients, "ada", "get").await.as_deref(), Ok("ada"));
    let _all = clients.asking.acquire_many(u32::try_from(AT_ONCE).unwrap()).await.unwrap();
    assert_eq!(admitted(&clients, "ada", "delete").await.as_deref(), Ok("ada"));
    let waits = tokio::time::timeout(Duration::from_millis(50), admitted(&clients, "bob", "get")).await;
    assert!(waits.is_err(), "one more of those that nobody knows");
}

#[tokio::test]
async fn what_was_answered_is_asked_again_in_time() {
    let (clients, asked) = api_server().await;
    assert_eq!(admitted(&clients, "ada", "get").await.as_deref(), Ok("ada"));
    taken(&asked);
    let long_ago = Instant::now().checked_sub(ANSWERED).unwrap();
    for known in clients.known().values_mut() {
        known.since = long_ago;
        known.name.as_mut().unwrap().1 = long_ago;
        known.may.values_mut().for_each(|(_, at)| *at = long_ago);
    }
    assert_eq!(admitted(&clients, "ada", "get").await.as_deref(), Ok("ada"));
    assert_eq!(taken(&asked), [("may", "ada".to_owned()), ("who", "ada".to_owned())]);
    // Who comes again and again stays known; nothing of a token that does not is kept for ever.
    assert!(clients.known().values().all(|known| known.since > long_ago));
    for known in clients.known().values_mut() {
        known.since = Instant::now().checked_sub(KEPT).unwrap();
    }
    assert!(clients.known().is_empty());
}

#[tokio::test]
async fn a_client_acts_as_its_caller_over_connections_that_all_share() {
    let (clients, asked) = api_server().await;
    for name in ["ada", "bob"] {
        let caller = caller(name, SecretString::from(name));
        let api: kube::Api<SelfSubjectReview> = kube::Api::all(clients.of(&caller).unwrap());
        api.create(&PostParams::default(), &SelfSubjectReview::default()).await.unwrap();
        assert_eq!(taken(&asked), [("who", name.to_owned())]);
    }
    let eve = caller("eve", SecretString::from("eve"));
    let api: kube::Api<SelfSubjectReview> = kube::Api::all(clients.of(&eve).unwrap());
    let error = api.create(&PostParams::default(), &SelfSubjectReview::default()).await.unwrap_err();
    assert_eq!(refused(&error).status, 401, "{error}");
}

#[test]
fn so_many_tokens_are_known_at_once() {
    let now = Instant::now();
    let one = |age: u64| Known {
        since: now.checked_sub(Duration::from_secs(age)).unwrap(),
        name: None,
        may: HashMap::new(),
    };
    let key = |n: usize| -> Key { Sha256::digest(n.to_le_bytes()).into() };
    let mut known: HashMap<Key, Known> = (0..AT_MOST).map(|n| (key(n), one(u64::from(n == 7)))).collect();
    make_room(&mut known, &key(3));
    assert_eq!(known.len(), AT_MOST, "that one is there");
    make_room(&mut known, &key(AT_MOST));
    assert!(known.len() == AT_MOST - 1 && !known.contains_key(&key(7)), "the oldest went");
}
