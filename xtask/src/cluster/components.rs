//! The programs that make a cluster, and where each says that it is well.

use super::layout::{API_PORT, NODE, NODE_NAME, OURS, PODS, PROVISIONER, SERVICES};

pub(super) struct Component {
    /// Also its program and its log.
    pub(super) name: &'static str,
    pub(super) args: Vec<String>,
    pub(super) health: Health,
}

/// Where one asks, on the node's address.
#[derive(Debug, Clone, Copy)]
pub(super) enum Health {
    Http(u16, &'static str),
    Https(u16, &'static str),
    Containerd,
}

/// In the order in which they are started.
pub(super) fn all() -> Vec<Component> {
    let mut all = first();
    all.extend(rest());
    all
}

/// What the API server needs, and it.
pub(super) fn first() -> Vec<Component> {
    vec![containerd(), etcd(), api_server()]
}

/// What asks the API server.
pub(super) fn rest() -> Vec<Component> {
    vec![kubelet(), controller_manager(), scheduler(), proxy(), coredns(), provisioner(), router()]
}

fn component(name: &'static str, health: Health, args: &[&str]) -> Component {
    let args = args.iter().map(|arg| arg.replace("{ours}", OURS).replace("{node}", NODE)).collect();
    Component { name, args, health }
}

impl Component {
    fn arg(mut self, arg: String) -> Self {
        self.args.push(arg);
        self
    }
}

fn containerd() -> Component {
    component("containerd", Health::Containerd, &["--config={ours}/containerd.toml"])
}

fn etcd() -> Component {
    let args = [
        "--data-dir=/var/lib/etcd",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--listen-metrics-urls=http://{node}:2381",
    ];
    component("etcd", Health::Http(2381, "/health"), &args)
}

fn api_server() -> Component {
    let args = [
        "--etcd-servers=http://127.0.0.1:2379",
        "--bind-address=0.0.0.0",
        "--advertise-address={node}",
        "--tls-cert-file={ours}/pki/server.crt",
        "--tls-private-key-file={ours}/pki/server.key",
        "--client-ca-file={ours}/pki/ca.crt",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        // So that it is Pod Security that refuses a privileged pod, where a namespace says so.
        "--allow-privileged=true",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        "--service-account-key-file={ours}/pki/tokens.crt",
        "--service-account-signing-key-file={ours}/pki/tokens.key",
        "--kubelet-client-certificate={ours}/pki/apiserver-kubelet.crt",
        "--kubelet-client-key={ours}/pki/apiserver-kubelet.key",
        // No resolver knows the node's name.
        "--kubelet-preferred-address-types=InternalIP",
        "--requestheader-client-ca-file={ours}/pki/front-proxy-ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--proxy-client-cert-file={ours}/pki/front-proxy-client.crt",
        "--proxy-client-key-file={ours}/pki/front-proxy-client.key",
    ];
    component("kube-apiserver", Health::Https(API_PORT, "/readyz"), &args)
        .arg(format!("--secure-port={API_PORT}"))
        .arg(format!("--service-cluster-ip-range={SERVICES}"))
}

fn controller_manager() -> Component {
    let args = [
        "--kubeconfig={ours}/kube-controller-manager.kubeconfig",
        "--authentication-kubeconfig={ours}/kube-controller-manager.kubeconfig",
        "--authorization-kubeconfig={ours}/kube-controller-manager.kubeconfig",
        "--service-account-private-key-file={ours}/pki/tokens.key",
        "--root-ca-file={ours}/pki/ca.crt",
        "--cluster-signing-cert-file={ours}/pki/ca.crt",
        "--cluster-signing-key-file={ours}/pki/ca.key",
        "--tls-cert-file={ours}/pki/server.crt",
        "--tls-private-key-file={ours}/pki/server.key",
        "--use-service-account-credentials",
        // The default is in /usr of the machine.
        "--flex-volume-plugin-dir=/var/lib/kubelet/volume-plugins",
        // Each controller asks for its account first; by default that alone takes four seconds.
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
        "--leader-elect=false",
    ];
    component("kube-controller-manager", Health::Https(10257, "/healthz"), &args)
}

fn scheduler() -> Component {
    let args = [
        "--kubeconfig={ours}/kube-scheduler.kubeconfig",
        "--authentication-kubeconfig={ours}/kube-scheduler.kubeconfig",
        "--authorization-kubeconfig={ours}/kube-scheduler.kubeconfig",
        "--tls-cert-file={ours}/pki/server.crt",
        "--tls-private-key-file={ours}/pki/server.key",
        "--leader-elect=false",
    ];
    component("kube-scheduler", Health::Https(10259, "/healthz"), &args)
}

fn kubelet() -> Component {
    let args = [
        "--config={ours}/kubelet.yaml",
        "--kubeconfig={ours}/kubelet.kubeconfig",
        "--node-ip={node}",
        "--v=2",
    ];
    component("kubelet", Health::Http(10248, "/healthz"), &args)
        .arg(format!("--hostname-override={NODE_NAME}"))
}

fn proxy() -> Component {
    let args = [
        "--kubeconfig={ours}/kube-proxy.kubeconfig",
        "--proxy-mode=nftables",
        "--healthz-bind-address={node}:10256",
        // Limits of connection tracking are the machine's, not ours.
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
    ];
    component("kube-proxy", Health::Http(10256, "/healthz"), &args)
        .arg(format!("--hostname-override={NODE_NAME}"))
        .arg(format!("--cluster-cidr={PODS}"))
}

fn coredns() -> Component {
    component("coredns", Health::Http(8181, "/ready"), &["-conf={ours}/Corefile"])
}

fn provisioner() -> Component {
    let args = [
        "-kubeconfig={ours}/provisioner.kubeconfig",
        "-root=/var/lib/volumes",
        // Kubernetes' own ports near it are taken.
        "-metrics-port=10240",
    ];
    component("provisioner", Health::Http(10240, "/metrics"), &args)
        .arg(format!("-name={PROVISIONER}"))
        .arg(format!("-node={NODE_NAME}"))
}

/// Only what makes NetworkPolicies hold: routes are the CNI plugin's, Services are kube-proxy's. With iptables and ipset:
/// kube-network-policies needs nft_queue, which not every kernel has.
fn router() -> Component {
    let args = [
        "--kubeconfig={ours}/kube-router.kubeconfig",
        "--run-firewall=true",
        "--run-router=false",
        "--run-service-proxy=false",
        "--enable-cni=false",
        "--health-port=20244",
    ];
    component("kube-router", Health::Http(20244, "/healthz"), &args)
        .arg(format!("--hostname-override={NODE_NAME}"))
        .arg(format!("--service-cluster-ip-range={SERVICES}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_distinct_and_every_placeholder_is_filled() {
        let all = all();
        let names: BTreeSet<_> = all.iter().map(|component| component.name).collect();
        assert_eq!(names.len(), all.len());
        for component in all {
            for arg in component.args {
                assert!(!arg.contains('{'), "{}: {arg}", component.name);
            }
        }
    }
}
