use server::{Config, Place, Server, StartError};
use std::{net::SocketAddr, os::unix::fs::PermissionsExt, path::Path, time::Duration};
use store::{Durability, StoreError};
use telemetry::Supervisor;

fn here(listen: Option<SocketAddr>) -> Place {
    Place::Here { listen, user: "me".to_owned() }
}

fn config(dir: &Path) -> Config {
    Config {
        data_dir: dir.join("data"),
        programs: dir.to_owned(),
        plugins: dir.join("plugins"),
        endpoint: None,
        script: None,
        default_model: None,
        exceptions: vec![],
        runner_log: "info".to_owned(),
        durability: Durability::Process,
        sessions: server::sessions::Settings::shipped(),
        confinement: Default::default(),
    }
}

#[tokio::test]
async fn one_server_per_folder_and_only_for_its_user() {
    let dir = tempfile::tempdir().unwrap();
    let (supervisor, ended) = Supervisor::new();
    let running = Server::start(config(dir.path()), here(Some("127.0.0.1:0".parse().unwrap())), &supervisor)
        .await
        .unwrap();
    let data = dir.path().join("data");
    for (path, mode) in [
        ("", 0o700),
        ("run", 0o700),
        ("keys", 0o700),
        ("run/api.sock", 0o600),
        ("run/runner.sock", 0o600),
        ("token", 0o600),
        ("keys/artifact.key", 0o600),
    ] {
        let found = std::fs::metadata(data.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{path}");
    }
    let token = std::fs::read_to_string(data.join("token")).unwrap();
    let socket = reqwest::Client::builder().unix_socket(data.join("run/api.sock")).build().unwrap();
    let version = socket.get("http://localhost/api/version").bearer_auth(&token).send().await.unwrap();
    assert_eq!(version.status(), 200);
    // The API's token is nothing to the runners' socket.
    let runners = reqwest::Client::builder().unix_socket(data.join("run/runner.sock")).build().unwrap();
    let refused = runners.get("http://localhost/runner/v1/history").bearer_auth(&token).send().await.unwrap();
    assert_eq!(refused.status(), 401);
    let tcp = format!("http://{}/health", running.tcp_addr.unwrap());
    assert_eq!(reqwest::get(&tcp).await.unwrap().status(), 200);

    let (second, _ended) = Supervisor::new();
    let error = Server::start(config(dir.path()), here(None), &second).await.err().unwrap();
    assert!(matches!(error, StartError::Store(StoreError::InUse)), "{error}");
    assert_eq!(
        socket.get("http://localhost/health").send().await.unwrap().status(),
        200,
        "the first one goes on"
    );

    running.shutdown.request();
    supervisor.wait(ended, Duration::from_secs(10)).await.unwrap();
    running.close().await;
    let (third, ended) = Supervisor::new();
    let again = Server::start(config(dir.path()), here(None), &third).await.unwrap();
    again.shutdown.request();
    third.wait(ended, Duration::from_secs(10)).await.unwrap();
}

#[tokio::test]
async fn where_it_may_not_listen_it_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let (supervisor, _ended) = Supervisor::new();
    let open = Server::start(config(dir.path()), here(Some("0.0.0.0:0".parse().unwrap())), &supervisor).await;
    assert!(open.err().unwrap().to_string().contains("127.0.0.1"));
    std::fs::set_permissions(dir.path().join("data"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let exposed = Server::start(config(dir.path()), here(None), &supervisor).await;
    assert!(exposed.err().unwrap().to_string().contains("chmod 700"));
}
