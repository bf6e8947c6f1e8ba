//! Who is who in the cluster: an authority of its own, made anew for each start, and what it vouches for.

use super::layout::{API_PORT, API_SERVICE, NODE, NODE_NAME};
use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose,
};
use serde_json::json;

/// Signs certificates. Its key never leaves memory but for [`Authority::key`].
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
pub(super) struct Identity {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// A client of the API server: the user's name, and the group that gives it its rights if that is how it gets them.
pub(super) struct Client {
    /// Of its files.
    pub(super) file: &'static str,
    user: &'static str,
    group: Option<&'static str>,
}

pub(super) const ADMIN: Client =
    Client { file: "admin", user: "kubernetes-admin", group: Some("system:masters") };

/// Those that read a kubeconfig. What the names may do is Kubernetes' own policy, and `objects.yaml` for the last three.
pub(super) const CLIENTS: &[Client] = &[
    ADMIN,
    Client { file: "kube-controller-manager", user: "system:kube-controller-manager", group: None },
    Client { file: "kube-scheduler", user: "system:kube-scheduler", group: None },
    Client { file: "kube-proxy", user: "system:kube-proxy", group: None },
    Client { file: "kubelet", user: "system:node:vteam", group: Some("system:nodes") },
    Client { file: "coredns", user: "coredns", group: None },
    Client { file: "provisioner", user: "provisioner", group: None },
    Client { file: "kube-router", user: "kube-router", group: None },
];

/// The API server, when it asks kubelet for logs and the like.
pub(super) const API_CLIENT: Client =
    Client { file: "apiserver-kubelet", user: "kube-apiserver", group: Some("system:masters") };

/// The API server, when it passes a request on to an extension.
pub(super) const FRONT_PROXY: Client =
    Client { file: "front-proxy-client", user: "front-proxy-client", group: None };

impl Authority {
    pub(super) fn new(name: &str) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name, None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)? })
    }

    pub(super) fn certificate(&self) -> String {
        self.issuer.pem()
    }

    pub(super) fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    pub(super) fn client(&self, client: &Client) -> Result<Identity, rcgen::Error> {
        self.issue(named(client.user, client.group), &[], ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// For what listens on the node, under all names and addresses by which the API server is reached.
    pub(super) fn server(&self) -> Result<Identity, rcgen::Error> {
        let names = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
            "127.0.0.1",
            NODE,
            API_SERVICE,
        ];
        self.issue(named("kube-apiserver", None), &names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    fn issue(
        &self,
        subject: DistinguishedName,
        names: &[&str],
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Identity, rcgen::Error> {
        let key = KeyPair::generate()?;
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = subject;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        Ok(Identity { certificate: params.signed_by(&key, &self.issuer)?.pem(), key: key.serialize_pem() })
    }

    /// How this client reaches the API server; with everything in it, so that the file can be copied away. JSON is YAML.
    pub(super) fn kubeconfig(&self, client: &Client) -> anyhow::Result<String> {
        let identity = self.client(client)?;
        let encoded = |pem: &str| BASE64_STANDARD.encode(pem);
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": NODE_NAME,
            "contexts": [{ "name": NODE_NAME, "context": { "cluster": NODE_NAME, "user": client.file } }],
            "clusters": [{ "name": NODE_NAME, "cluster": {
                "server": format!("https://{NODE}:{API_PORT}"),
                "certificate-authority-data": encoded(&self.certificate()),
            } }],
            "users": [{ "name": client.file, "user": {
                "client-certificate-data": encoded(&identity.certificate),
                "client-key-data": encoded(&identity.key),
            } }],
        });
        Ok(serde_json::to_string_pretty(&config)?)
    }
}

/// A key that signs service accounts' tokens.
pub(super) fn token_key() -> Result<Identity, rcgen::Error> {
    let key = KeyPair::generate()?;
    Ok(Identity { certificate: key.public_key_pem(), key: key.serialize_pem() })
}

fn named(name: &str, group: Option<&str>) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    if let Some(group) = group {
        // Kubernetes' convention: organisations are groups.
        named.push(DnType::OrganizationName, group);
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_holds_all_that_is_needed() {
        let authority = Authority::new("test").unwrap();
        let config: serde_json::Value = serde_json::from_str(&authority.kubeconfig(&ADMIN).unwrap()).unwrap();
        let pem = |pointer: &str| {
            let encoded = config.pointer(pointer).unwrap().as_str().unwrap();
            String::from_utf8(BASE64_STANDARD.decode(encoded).unwrap()).unwrap()
        };
        assert_eq!(pem("/clusters/0/cluster/certificate-authority-data"), authority.certificate());
        assert!(pem("/users/0/user/client-key-data").starts_with("-----BEGIN PRIVATE KEY-----"));
    }

    #[test]
    fn kubelet_is_the_node() {
        let user = format!("system:node:{NODE_NAME}");
        assert!(CLIENTS.iter().any(|client| client.file == "kubelet" && client.user == user));
    }
}
