//! The server of a cluster, found and reached by a kubeconfig alone: through the cluster's API server, as its user.
//!
//! TLS goes all the way to the server, which is known by the CA that it published; the API server passes bytes on. What the
//! server is shown is the user's own token, or that of a service account that the user may ask one for.

mod identity;
mod tunnel;

pub(crate) use identity::Identity;
pub(crate) use tunnel::{Tunnel, is_ready};

use crate::{
    client::{Address, Client, Credential},
    exit::{Code, Failure, Outcome},
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Config,
    client::{ClientBuilder, ConfigExt as _},
    config::{AuthInfo, KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use model::id::ProjectName;
use secrecy::SecretString;
use std::{path::PathBuf, sync::Arc};
use tower::buffer::BufferLayer;

/// The server's Service, whose name is in its certificate.
pub(crate) const SERVICE: &str = "vteam-server";
/// Where the server publishes its CA's certificate.
const CA: &str = "vteam-server-ca";
const CA_KEY: &str = "ca.crt";
/// That wait for the API server.
const REQUESTS: usize = 64;

/// What was said on the command line.
#[derive(Debug)]
pub(crate) struct Named {
    /// `None`: the kubeconfig's current one.
    pub(crate) context: Option<String>,
    pub(crate) kubeconfig: Option<PathBuf>,
    pub(crate) service_account: Option<String>,
    pub(crate) system_namespace: ProjectName,
}

/// A context that is there. Nothing was asked of its cluster yet.
pub(crate) struct Context {
    pub(crate) name: String,
    /// The API server, as the context's user.
    pub(crate) client: kube::Client,
    pub(crate) config: Config,
    pub(crate) project: ProjectName,
    /// The namespace that vteam is in.
    pub(crate) system: ProjectName,
    user: identity::User,
    service_account: Option<String>,
}

impl Context {
    /// # Errors
    /// When the kubeconfig or the context cannot be used.
    pub(crate) async fn open(named: &Named, project: Option<&ProjectName>) -> Outcome<Self> {
        let kubeconfig = read(named)?;
        let name = named.context.clone().or_else(|| kubeconfig.current_context.clone());
        let name = name.ok_or_else(|| unusable("the kubeconfig has no current context", &kubeconfig))?;
        if !kubeconfig.contexts.iter().any(|context| context.name == name) {
            return Err(unusable(&format!("there is no context {name} in the kubeconfig"), &kubeconfig));
        }
        let options = KubeConfigOptions { context: Some(name.clone()), ..KubeConfigOptions::default() };
        let failed = |e: &(dyn std::error::Error + 'static)| {
            Failure::of(Code::Usage, &format!("the context {name} cannot be used"), e)
        };
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|e| failed(&e))?;
        let project = match project {
            Some(project) => project.clone(),
            None => config.default_namespace.parse().map_err(|e| failed(&e))?,
        };
        let (client, user) = client(config.clone()).await.map_err(|e| failed(&e))?;
        Ok(Self {
            name,
            client,
            config,
            project,
            system: named.system_namespace.clone(),
            user,
            service_account: named.service_account.clone(),
        })
    }

    /// A client of the cluster's server.
    ///
    /// # Errors
    /// When there is no way to it.
    pub(crate) async fn connect(&self, credential: Credential) -> Outcome<Client> {
        let tunnel = Tunnel::open(self, self.ca().await?)
            .map_err(|e| Failure::of(Code::Failed, "no port can be forwarded", &e))?;
        Client::new(Address::Tunnel(Arc::new(tunnel)), credential, self.project.clone())
    }

    /// What the server is shown, where nothing else was given.
    ///
    /// # Errors
    /// When the user has no token, and no account was named.
    pub(crate) fn credential(&self) -> Outcome<Credential> {
        let identity = match &self.service_account {
            Some(account) => Identity::account_of(self.client.clone(), &self.project, account),
            None => self.user.token().ok_or_else(|| self.no_token())?,
        };
        Ok(Credential::Context(Arc::new(identity)))
    }

    /// The API server, as whoever this token is of.
    ///
    /// # Errors
    /// When the token cannot be sent.
    pub(crate) fn client_of(&self, token: SecretString) -> kube::Result<kube::Client> {
        let mut config = self.config.clone();
        config.auth_info = AuthInfo { token: Some(token), ..AuthInfo::default() };
        kube::Client::try_from(config)
    }

    fn no_token(&self) -> Failure {
        let (name, project, why) = (&self.name, &self.project, self.user.why_none());
        Failure::new(
            Code::Usage,
            format!(
                "the context {name} has no token that could be passed on to the server: {why}. Name an account of the \
                 project whose token is asked for in its place, and to which sessions then belong: \
                 --service-account NAME (`kubectl get serviceaccounts --namespace {project}` lists them)"
            ),
        )
    }

    async fn ca(&self) -> Outcome<Vec<u8>> {
        let system = &self.system;
        let maps = Api::<ConfigMap>::namespaced(self.client.clone(), system.as_str());
        let map = maps.get_opt(CA).await.map_err(|e| self.failed(&format!("read the ConfigMap {CA}"), &e))?;
        let map = map.ok_or_else(|| {
            let text = format!(
                "vteam is not in the namespace {system} of the context {}: install it (`vteam install --help`), or say \
                 where it is with --system-namespace NAME",
                self.name
            );
            Failure::new(Code::Unreachable, text)
        })?;
        let ca = map.data.and_then(|mut data| data.remove(CA_KEY)).ok_or_else(|| {
            let text =
                format!("the server in {system} has not started yet: its ConfigMap {CA} has no certificate");
            Failure::new(Code::Unreachable, text)
        })?;
        Ok(ca.into_bytes())
    }

    /// What an answer of the API server means.
    pub(crate) fn failed(&self, what: &str, error: &kube::Error) -> Failure {
        let (name, system) = (&self.name, &self.system);
        match error {
            kube::Error::Api(answer) if answer.code == 401 => Failure::new(
                Code::Unauthorized,
                format!(
                    "the cluster of the context {name} does not take its credentials: log in again, as for kubectl"
                ),
            ),
            kube::Error::Api(answer) if answer.code == 403 => Failure::new(
                Code::Forbidden,
                format!(
                    "you may not {what} in {system}: ask for the role vteam-connect there, or use --server with an \
                     address of the server ({})",
                    answer.message
                ),
            ),
            kube::Error::Api(_) => Failure::of(Code::Failed, &format!("cannot {what}"), error),
            _ => Failure::of(
                Code::Unreachable,
                &format!("the cluster of the context {name} does not answer"),
                error,
            ),
        }
    }
}

/// The API server as the context's user, and what is known of that user. A plugin that gives tokens runs once for both.
async fn client(mut config: Config) -> kube::Result<(kube::Client, identity::User)> {
    read_written_token(&mut config.auth_info);
    let layer = {
        let config = config.clone();
        // A plugin is waited for.
        tokio::task::spawn_blocking(move || config.auth_layer()).await
    };
    let layer = layer.map_err(|e| kube::Error::Service(Box::new(e)))??;
    let user = identity::User::of(&config.auth_info, layer.map(Arc::new)).await?;
    let Some(layer) = user.layer() else {
        return Ok((ClientBuilder::try_from(config)?.build(), user));
    };
    // What the layer does is not done again.
    config.auth_info = AuthInfo {
        token: None,
        token_file: None,
        exec: None,
        auth_provider: None,
        username: None,
        password: None,
        ..config.auth_info
    };
    // A layer that may have to wait needs a service that can be cloned.
    let service = ClientBuilder::try_from(config)?.with_layer(&BufferLayer::new(REQUESTS));
    Ok((service.with_layer(&**layer).build(), user))
}

/// A token that somebody wrote into a file ends with a line break, which kube sends along and kubectl does not. One that is
/// replaced by a program has none, and is read again and again.
fn read_written_token(info: &mut AuthInfo) {
    let file = info.token_file.as_ref().filter(|_| info.token.is_none());
    let text = file.and_then(|file| std::fs::read_to_string(file).ok());
    if let Some(text) = text.filter(|text| text.trim() != text) {
        info.token = Some(SecretString::from(text.trim()));
    }
}

fn read(named: &Named) -> Outcome<Kubeconfig> {
    let read = match &named.kubeconfig {
        Some(file) => Kubeconfig::read_from(file),
        None => Kubeconfig::read(),
    };
    let none = |at: &str| {
        Failure::new(
            Code::Usage,
            format!("there is no kubeconfig{at}: give --kubeconfig FILE, or set KUBECONFIG"),
        )
    };
    read.map_err(|error| match &error {
        KubeconfigError::FindPath => none(""),
        KubeconfigError::ReadConfig(io, file) if io.kind() == std::io::ErrorKind::NotFound => {
            none(&format!(" at {}", file.display()))
        }
        _ => Failure::of(Code::Usage, "the kubeconfig cannot be used", &error),
    })
}

fn unusable(why: &str, kubeconfig: &Kubeconfig) -> Failure {
    let names: Vec<&str> = kubeconfig.contexts.iter().map(|context| context.name.as_str()).collect();
    let there =
        if names.is_empty() { "it has none".to_owned() } else { format!("there are: {}", names.join(", ")) };
    Failure::new(Code::Usage, format!("{why}; {there}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
apiVersion: v1
kind: Config
current-context: plain
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users:
  - {name: token, user: {token: abc}}
  - {name: file, user: {tokenFile: token}}
  - {name: plugin, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: ./plugin, interactiveMode: Never}}}
  - {name: password, user: {username: me, password: pw}}
  - {name: other, user: {token: abc, as: somebody}}
  - {name: none, user: {}}
contexts:
  - {name: plain, context: {cluster: c, user: token, namespace: demo}}
  - {name: file, context: {cluster: c, user: file}}
  - {name: plugin, context: {cluster: c, user: plugin}}
  - {name: password, context: {cluster: c, user: password}}
  - {name: other, context: {cluster: c, user: other}}
  - {name: none, context: {cluster: c, user: none}}
"#;

    const PLUGIN: &str = r#"#!/bin/sh
echo >> "$(dirname "$0")/ran"
echo '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "given"}}'
"#;

    /// A kubeconfig in a folder of its own, with what it names.
    fn kubeconfig() -> tempfile::TempDir {
        use std::{fs, os::unix::fs::PermissionsExt as _};
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("config"), CONFIG).unwrap();
        fs::write(at("token"), "kept\n").unwrap();
        fs::write(at("plugin"), PLUGIN).unwrap();
        fs::set_permissions(at("plugin"), fs::Permissions::from_mode(0o755)).unwrap();
        folder
    }

    fn named(folder: &tempfile::TempDir, context: Option<&str>, account: Option<&str>) -> Named {
        Named {
            context: context.map(str::to_owned),
            kubeconfig: Some(folder.path().join("config")),
            service_account: account.map(str::to_owned),
            system_namespace: "vteam-system".parse().unwrap(),
        }
    }

    #[tokio::test]
    async fn the_users_own_token_is_passed_on() {
        use secrecy::ExposeSecret as _;
        let folder = kubeconfig();
        let check = async |context: Option<&str>, expected: Result<&str, &str>| {
            let context = Context::open(&named(&folder, context, None), None).await.unwrap();
            let token = match context.credential() {
                Ok(credential) => credential.token().await,
                Err(failure) => Err(failure),
            };
            match (token, expected) {
                (Ok(token), Ok(expected)) => assert_eq!(token.expose_secret(), expected),
                (Err(failure), Err(part)) => {
                    assert!(failure.to_string().contains(part), "{failure}");
                    assert_eq!(failure.code, Code::Usage);
                }
                (token, expected) => panic!("{token:?}, not {expected:?}"),
            }
        };
        check(None, Ok("abc")).await;
        check(Some("file"), Ok("kept")).await;
        check(Some("plugin"), Ok("given")).await;
        check(Some("password"), Err("a password")).await;
        check(Some("other"), Err("somebody else")).await;
        check(Some("none"), Err("--service-account NAME")).await;
        let ran = std::fs::read_to_string(folder.path().join("ran")).unwrap();
        assert_eq!(ran.lines().count(), 1, "the plugin is asked once for both");
    }

    #[tokio::test]
    async fn the_project_is_the_namespace_of_the_context() {
        let folder = kubeconfig();
        let check = async |context: &str, project: Option<&str>, expected: &str| {
            let project = project.map(|name| name.parse().unwrap());
            let named = named(&folder, Some(context), Some("a"));
            let context = Context::open(&named, project.as_ref()).await.unwrap();
            assert_eq!(context.project.as_str(), expected);
            assert_eq!(
                context.credential().unwrap().acts_as().unwrap(),
                format!("system:serviceaccount:{expected}:a")
            );
        };
        check("plain", None, "demo").await;
        check("plain", Some("other"), "other").await;
        check("none", None, "default").await;
    }

    #[tokio::test]
    async fn a_context_that_is_not_there_is_told_with_those_that_are() {
        let folder = kubeconfig();
        let failure = Context::open(&named(&folder, Some("x"), None), None).await.err().unwrap();
        assert!(
            failure.to_string().contains("there is no context x in the kubeconfig; there are: plain, file"),
            "{failure}"
        );
        std::fs::remove_file(folder.path().join("config")).unwrap();
        let failure = Context::open(&named(&folder, None, None), None).await.err().unwrap();
        assert!(failure.to_string().contains("there is no kubeconfig at"), "{failure}");
    }
}
