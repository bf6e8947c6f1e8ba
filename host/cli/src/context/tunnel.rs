//! The way to the server's port in its pod, through the API server: a connection each, to whichever pod is ready then. What
//! breaks is the one connection; whoever needs another one gets it.

use super::{Context, SERVICE};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _, api::ListParams};
use model::id::ProjectName;
use std::{
    ffi::OsStr,
    fmt, io,
    os::{linux::net::SocketAddrExt as _, unix::ffi::OsStrExt as _, unix::net},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::copy_bidirectional,
    net::{UnixListener, UnixStream},
    task::{JoinHandle, JoinSet},
};

/// How long the API server may take to find a pod and to reach its port.
const DEADLINE: Duration = Duration::from_secs(10);
const SELECTOR: &str = "app.kubernetes.io/name=vteam-server";
/// Of the container's port for callers.
const PORT: &str = "api";

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("no pod of the server is ready in {0}: kubectl --namespace {0} get pods")]
    NotReady(ProjectName),
    #[error("{0}")]
    Refused(String),
    #[error("the way to the pod {0} does not open")]
    Slow(String),
    #[error("the pod {pod} does not answer: {why}")]
    Pod { pod: String, why: String },
}

/// A socket of this process that leads to the server. Nobody else can connect to it.
pub(crate) struct Tunnel {
    context: String,
    host: String,
    socket: PathBuf,
    ca: Vec<u8>,
    trouble: Arc<Mutex<Option<String>>>,
    task: JoinHandle<()>,
}

impl Tunnel {
    /// From now on, until it is dropped.
    pub(super) fn open(context: &Context, ca: Vec<u8>) -> io::Result<Self> {
        // In no folder, so nothing is left behind, however this process ends.
        let name = format!("vteam-{}", uuid::Uuid::new_v4().simple());
        let listener = net::UnixListener::bind_addr(&net::SocketAddr::from_abstract_name(&name)?)?;
        listener.set_nonblocking(true)?;
        let trouble = Arc::new(Mutex::default());
        let way = Way {
            pods: Api::namespaced(context.client.clone(), context.system.as_str()),
            system: context.system.clone(),
            trouble: Arc::clone(&trouble),
        };
        Ok(Self {
            context: context.name.clone(),
            host: format!("{SERVICE}.{}.svc", context.system),
            socket: Path::new(OsStr::from_bytes(format!("\0{name}").as_bytes())).to_owned(),
            ca,
            trouble,
            task: tokio::spawn(serve(UnixListener::from_std(listener)?, Arc::new(way))),
        })
    }

    /// By which the server's certificate names it.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// An abstract name of Linux.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The only CA to trust there, as PEM.
    pub(crate) fn ca(&self) -> &[u8] {
        &self.ca
    }

    /// Why the last connection did not get through.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: UnixListener, way: Arc<Way>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((near, _)) if is_ours(&near) => drop(connections.spawn(Arc::clone(&way).carry(near))),
                Ok(_) => {}
                // Too many open files, as a rule.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Names without a folder have no permissions: who connects is looked at.
fn is_ours(near: &UnixStream) -> bool {
    near.peer_cred().ok().and_then(|peer| peer.pid()).and_then(|pid| u32::try_from(pid).ok())
        == Some(std::process::id())
}

struct Way {
    pods: Api<Pod>,
    system: ProjectName,
    trouble: Arc<Mutex<Option<String>>>,
}

impl Way {
    async fn carry(self: Arc<Self>, mut near: UnixStream) {
        let outcome = self.forward(&mut near).await;
        // Before `near` closes, which is when somebody asks.
        self.note(outcome.err().map(|trouble| trouble.to_string()));
    }

    fn note(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    async fn forward(&self, near: &mut UnixStream) -> Result<(), Trouble> {
        let (pod, port) = self.ready().await?;
        let opened = tokio::time::timeout(DEADLINE, self.pods.portforward(&pod, &[port])).await;
        let mut forwarder = opened.map_err(|_| Trouble::Slow(pod.clone()))?.map_err(|e| refused(&e))?;
        let (Some(mut far), Some(failed)) = (forwarder.take_stream(port), forwarder.take_error(port)) else {
            return Err(Trouble::Slow(pod));
        };
        self.note(None);
        let copied = copy_bidirectional(near, &mut far).await;
        drop(far);
        match failed.await {
            Some(why) => Err(Trouble::Pod { pod, why }),
            None => copied.map(drop).map_err(|e| Trouble::Pod { pod, why: e.to_string() }),
        }
    }

    /// A pod of the server that is ready, and its port.
    async fn ready(&self) -> Result<(String, u16), Trouble> {
        let list = ListParams::default().labels(SELECTOR);
        let pods = tokio::time::timeout(DEADLINE, self.pods.list(&list)).await;
        let pods = pods.map_err(|_| Trouble::Slow(SERVICE.to_owned()))?.map_err(|e| refused(&e))?;
        let pod = pods.items.iter().find(|pod| is_ready(pod));
        let pod = pod.ok_or_else(|| Trouble::NotReady(self.system.clone()))?;
        Ok((pod.name_any(), port(pod)))
    }
}

fn refused(error: &kube::Error) -> Trouble {
    Trouble::Refused(match error {
        kube::Error::Api(answer) if answer.code == 403 => {
            format!("you may not forward its port: ask for the role vteam-connect ({})", answer.message)
        }
        _ => telemetry::field::chain(error),
    })
}

/// Whether it takes connections, and will for a while.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = |all: &Vec<_>| all.iter().any(holds);
    pod.metadata.deletion_timestamp.is_none() && conditions.is_some_and(ready)
}

fn holds(condition: &k8s_openapi::api::core::v1::PodCondition) -> bool {
    condition.type_ == "Ready" && condition.status == "True"
}

fn port(pod: &Pod) -> u16 {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let named = ports.find(|port| port.name.as_deref() == Some(PORT));
    named.and_then(|port| u16::try_from(port.container_port).ok()).unwrap_or(8443)
}

/// Where nobody answered.
impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "as {} of the context {}", self.host, self.context)
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel")
            .field("context", &self.context)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn only_a_ready_pod_is_taken() {
        let check = |pod: Value, expected: (bool, u16)| {
            let pod: Pod = serde_json::from_value(pod).unwrap();
            assert_eq!((is_ready(&pod), port(&pod)), expected);
        };
        let status = |ready: &str| json!({"conditions": [{"type": "Ready", "status": ready}]});
        check(json!({"metadata": {}, "status": status("True")}), (true, 8443));
        check(json!({"metadata": {}, "status": status("False")}), (false, 8443));
        check(
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": status("True")}),
            (false, 8443),
        );
        let containers = json!([{"name": "server", "ports": [
            {"name": "runners", "containerPort": 1}, {"name": "api", "containerPort": 2}]}]);
        check(json!({"metadata": {}, "spec": {"containers": containers}}), (false, 2));
    }

    #[tokio::test]
    async fn the_socket_is_of_this_process_alone() {
        let name = format!("vteam-test-{}", uuid::Uuid::new_v4().simple());
        let listener =
            net::UnixListener::bind_addr(&net::SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = UnixListener::from_std(listener).unwrap();
        let _ours =
            UnixStream::connect(Path::new(OsStr::from_bytes(format!("\0{name}").as_bytes()))).await.unwrap();
        assert!(is_ours(&listener.accept().await.unwrap().0));
    }
}
