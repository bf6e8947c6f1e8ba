//! What the command was told, checked, from flags and the environment. Nothing else reads the environment.

use crate::{
    args::{Global, ModelApi, ModelArgs, SYSTEM_NAMESPACE, ServerArgs},
    client::{Address, Client, Credential},
    context::{self, Context},
    exit::{Code, Failure, Outcome},
    output::Output,
};
use model::id::ProjectName;
use secrecy::{ExposeSecret as _, SecretString};
use std::{
    io::ErrorKind,
    net::IpAddr,
    path::{Path, PathBuf},
};

/// In the data folder.
const TOKEN: &str = "token";

/// Where the server is.
#[derive(Debug)]
pub(crate) enum Place {
    /// The one of the data folder.
    Here,
    Url {
        url: String,
        ca: Option<PathBuf>,
    },
    /// That of a cluster.
    Cluster(context::Named),
}

#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    pub(crate) place: Place,
    token: Option<SecretString>,
    /// Where it was named.
    token_file: Option<PathBuf>,
    project: Option<ProjectName>,
    /// Which server and project were named, as flags for a command that is to be typed next: nothing, or with a space before
    /// each. Never a token.
    pub(crate) flags: String,
    pub(crate) output: Output,
    pub(crate) log: Option<String>,
    /// Where `vteam-runner` and its siblings are.
    pub(crate) bin_dir: PathBuf,
    /// First-party plugins.
    pub(crate) plugins_dir: PathBuf,
}

impl Settings {
    pub(crate) fn read(global: Global) -> Outcome<Self> {
        let flags = flags(&global);
        let Global { data_dir, at, project, json, log } = global;
        let data_dir = absolute(&data_dir.map_or_else(default_data_dir, Ok)?)?;
        let bin_dir = variable("VTEAM_BIN_DIR").map_or_else(beside_us, Ok)?;
        let plugins_dir = variable("VTEAM_PLUGINS_DIR").unwrap_or_else(|| plugins_beside(&bin_dir));
        Ok(Self {
            token: at.token.clone().map(SecretString::from),
            token_file: at.token_file.as_deref().map(absolute).transpose()?,
            place: Place::of(at)?,
            data_dir,
            project,
            flags,
            output: Output::new(json, colours_wanted()),
            log,
            bin_dir,
            plugins_dir,
        })
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.data_dir.join("run/api.sock")
    }

    /// Of a server on this data folder.
    pub(crate) fn own_token_file(&self) -> PathBuf {
        self.data_dir.join(TOKEN)
    }

    /// Where the token is, unless it was given itself.
    fn token_file(&self) -> PathBuf {
        self.token_file.clone().unwrap_or_else(|| self.own_token_file())
    }

    /// Whether the server sees this machine's folders.
    pub(crate) fn sees_folders(&self) -> bool {
        match &self.place {
            Place::Here => true,
            // TLS is not spoken by `vteam up` itself, so this is a machine or a cluster behind something.
            Place::Url { url, .. } => !url.starts_with("https:"),
            Place::Cluster(_) => false,
        }
    }

    /// Before a verb that is about this machine, and has nothing to do with a cluster.
    ///
    /// # Errors
    /// When one was named. The address of a server may be this machine's.
    pub(crate) fn only_here(&self, verb: &str) -> Outcome {
        let Place::Cluster(_) = &self.place else { return Ok(()) };
        Err(Failure::new(
            Code::Usage,
            format!(
                "`vteam {verb}` is about this machine, and --context, --kubeconfig or VTEAM_CONTEXT names a cluster: leave it \
                 out. `vteam install` prints what a cluster is given"
            ),
        ))
    }

    /// A client of the server that was named, or of this machine's.
    pub(crate) async fn client(&self) -> Outcome<Client> {
        let address = match &self.place {
            Place::Here => Address::Socket(self.socket()),
            Place::Url { url, ca } => {
                Address::Url { url: url.clone(), ca: ca.as_deref().map(certificate).transpose()? }
            }
            Place::Cluster(named) => {
                let context = Context::open(named, self.project.as_ref()).await?;
                let client = context.connect(self.shown(&context)?).await?;
                return Ok(client.named_by(self.flags.clone()));
            }
        };
        let client = Client::new(address, Credential::Token(self.token()?), self.project()?)?;
        Ok(client.named_by(self.flags.clone()))
    }

    /// Where no context names another.
    fn project(&self) -> Outcome<ProjectName> {
        let standard = || {
            let parsed = server::settings::DEFAULT.parse();
            parsed.map_err(|e| Failure::of(Code::Failed, "there is no default project", &e))
        };
        self.project.clone().map_or_else(standard, Ok)
    }

    /// The cluster of the context that was named.
    pub(crate) async fn context(&self) -> Outcome<Option<Context>> {
        match &self.place {
            Place::Cluster(named) => Context::open(named, self.project.as_ref()).await.map(Some),
            Place::Here | Place::Url { .. } => Ok(None),
        }
    }

    /// What the server of a context is shown: a token that was given, else the context's own.
    pub(crate) fn shown(&self, context: &Context) -> Outcome<Credential> {
        let given = self.token.is_some() || self.token_file.is_some();
        if given { self.token().map(Credential::Token) } else { context.credential() }
    }

    fn token(&self) -> Outcome<SecretString> {
        if let Some(token) = &self.token {
            return checked(token.expose_secret(), &"--token");
        }
        let file = self.token_file();
        let text = std::fs::read_to_string(&file).map_err(|e| match e.kind() {
            // The one that a server of this machine makes: none has run.
            ErrorKind::NotFound if matches!(self.place, Place::Here) && self.token_file.is_none() => {
                let text = "no server has run here yet; start one with: vteam up";
                Failure::new(Code::Unreachable, format!("there is no token at {}: {text}", file.display()))
            }
            ErrorKind::NotFound => {
                let text =
                    "give --token-file the file that `vteam up` names, or one with a token of the cluster";
                Failure::new(Code::Unauthorized, format!("there is no token at {}: {text}", file.display()))
            }
            _ => Failure::of(Code::Unauthorized, &format!("cannot read the token {}", file.display()), &e),
        })?;
        checked(&text, &file.display())
    }
}

impl Place {
    fn of(args: ServerArgs) -> Outcome<Self> {
        let ServerArgs { server, ca, context, kubeconfig, service_account, system_namespace, .. } = args;
        let misplaced = |flag: &str, with: &str| {
            Failure::new(
                Code::Usage,
                format!("{flag} goes with {with} only: leave it out, or say which server"),
            )
        };
        if context.is_some() || kubeconfig.is_some() {
            if ca.is_some() {
                return Err(misplaced("--ca", "--server"));
            }
            return Ok(Self::Cluster(context::Named {
                context,
                kubeconfig,
                service_account,
                system_namespace,
            }));
        }
        if service_account.is_some() {
            return Err(misplaced("--service-account", "--context"));
        }
        match server {
            Some(url) => {
                check_server(&url)?;
                Ok(Self::Url { url, ca: ca.as_deref().map(absolute).transpose()? })
            }
            None if ca.is_some() => Err(misplaced("--ca", "--server")),
            None => Ok(Self::Here),
        }
    }
}

fn flags(global: &Global) -> String {
    let Global { data_dir, at, project, .. } = global;
    let ServerArgs {
        server,
        ca,
        token: _,
        token_file,
        context,
        kubeconfig,
        service_account,
        system_namespace,
    } = at;
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let system = (system_namespace.as_str() != SYSTEM_NAMESPACE).then(|| system_namespace.to_string());
    let named = [
        ("--data-dir", path(data_dir)),
        ("--server", server.clone()),
        ("--ca", path(ca)),
        ("--token-file", path(token_file)),
        ("--context", context.clone()),
        ("--kubeconfig", path(kubeconfig)),
        ("--service-account", service_account.clone()),
        ("--system-namespace", system),
        ("--project", project.as_ref().map(ToString::to_string)),
    ];
    let given = named.into_iter().filter_map(|(flag, value)| Some(format!(" {flag} {}", quoted(&value?))));
    given.collect()
}

/// As a shell reads it back.
fn quoted(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@%+=,".contains(&byte);
    if !value.is_empty() && value.bytes().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', r"'\''"))
}

fn checked(text: &str, from: &dyn std::fmt::Display) -> Outcome<SecretString> {
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::new(Code::Unauthorized, format!("{from} holds no token")));
    }
    Ok(SecretString::from(token))
}

fn certificate(file: &Path) -> Outcome<Vec<u8>> {
    std::fs::read(file)
        .map_err(|e| Failure::of(Code::Usage, &format!("cannot read the CA {}", file.display()), &e))
}

/// Colours are wanted unless `NO_COLOR` is set to something (<https://no-color.org>).
pub(crate) fn colours_wanted() -> bool {
    variable("NO_COLOR").is_none() && variable("TERM").is_none_or(|term| term != Path::new("dumb"))
}

/// Who answers the model's requests.
#[derive(Debug)]
pub(crate) enum Upstream {
    /// A script, clearly named as one.
    Scripted(PathBuf),
    Anthropic {
        url: Option<String>,
        key: SecretString,
    },
    OpenAi {
        url: String,
        key: Option<SecretString>,
    },
    /// Nobody: a session says so when it asks.
    None,
}

impl Upstream {
    pub(crate) fn read(args: &ModelArgs) -> Outcome<Self> {
        if let Some(script) = &args.script {
            return absolute(script).map(Self::Scripted);
        }
        // Anthropic's key goes to no other address than the one that was named with it.
        let (url, key) = match &args.model_url {
            Some(url) => (Some(url.clone()), secret("VTEAM_MODEL_KEY")),
            None => (
                text("ANTHROPIC_BASE_URL"),
                secret("VTEAM_MODEL_KEY").or_else(|| secret("ANTHROPIC_API_KEY")),
            ),
        };
        match (args.model_api, url, key) {
            (Some(ModelApi::Openai), Some(url), key) => Ok(Self::OpenAi { url, key }),
            (Some(ModelApi::Openai), None, _) => Err(Failure::new(
                Code::Usage,
                "an OpenAI-compatible model needs its address: --model-url URL",
            )),
            (_, url, Some(key)) => Ok(Self::Anthropic { url, key }),
            (_, Some(url), None) => {
                Err(Failure::new(Code::Usage, format!("a key is needed for {url}: set VTEAM_MODEL_KEY")))
            }
            (_, None, None) => Ok(Self::None),
        }
    }
}

/// What people set the key with that is in use.
pub(crate) fn key_setting() -> &'static str {
    if text("VTEAM_MODEL_KEY").is_some() { "VTEAM_MODEL_KEY" } else { "ANTHROPIC_API_KEY" }
}

/// Who acts, for the log: as the system names them.
pub(crate) fn user() -> String {
    text("USER")
        .or_else(|| text("LOGNAME"))
        .unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}

/// The model for sessions that name none.
pub(crate) fn default_model() -> Option<String> {
    text("VTEAM_MODEL")
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn secret(name: &str) -> Option<SecretString> {
    text(name).map(SecretString::from)
}

fn default_data_dir() -> Outcome<PathBuf> {
    let base = variable("XDG_DATA_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/share")));
    base.map(|base| base.join("vteam")).ok_or_else(|| {
        Failure::new(Code::Usage, "HOME is not set: say where data may lie with --data-dir DIR")
    })
}

fn beside_us() -> Outcome<PathBuf> {
    let us = std::env::current_exe()?;
    us.parent().map(Path::to_owned).ok_or_else(|| Failure::new(Code::Failed, "this program has no folder"))
}

/// As installed, or as cargo leaves them in a checkout.
fn plugins_beside(bin_dir: &Path) -> PathBuf {
    let installed = bin_dir.join("plugins");
    let built = bin_dir.parent().map(|target| target.join("plugins"));
    match built {
        Some(built) if !installed.is_dir() && built.join("index.json").is_file() => built,
        _ => installed,
    }
}

pub(crate) fn absolute(path: &Path) -> Outcome<PathBuf> {
    std::path::absolute(path)
        .map_err(|e| Failure::of(Code::Usage, &format!("{} is no path", path.display()), &e))
}

/// The token goes only where nobody can read it on its way.
fn check_server(url: &str) -> Outcome {
    let refused = |why: &str| Err(Failure::new(Code::Usage, format!("--server {url}: {why}")));
    let Ok(parsed) = reqwest::Url::parse(url) else {
        return refused("is no URL, such as http://127.0.0.1:7878");
    };
    let host = parsed.host_str().unwrap_or_default();
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let loopback = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
    match parsed.scheme() {
        "https" => Ok(()),
        "http" if loopback => Ok(()),
        "http" => refused(
            "plain http would send the token unprotected: use https, or a tunnel (ssh -L) and http://127.0.0.1:PORT",
        ),
        _ => refused("must be an http or https URL"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(line: &[&str]) -> Outcome<Settings> {
        use clap::Parser as _;
        let line = ["vteam", "personas"].iter().chain(line);
        Settings::read(crate::args::Cli::parse_from(line).global)
    }

    #[test]
    fn a_token_that_is_not_there_is_missing_or_nobody_has_run() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(file("empty"), "\n").unwrap();
        std::fs::write(file("mine"), "abc\n").unwrap();
        let check = |line: &[&str], expected: Result<&str, Code>| {
            let here = dir.path().to_str().unwrap();
            let token = settings(&[&["--data-dir", here], line].concat()).unwrap().token();
            let token = token.as_ref().map(|token| token.expose_secret());
            assert_eq!(token.map_err(|failure| failure.code), expected, "{line:?}");
        };
        check(&[], Err(Code::Unreachable));
        check(&["--server", "http://127.0.0.1:1"], Err(Code::Unauthorized));
        check(&["--token-file", &file("none")], Err(Code::Unauthorized));
        check(&["--token-file", &file("empty")], Err(Code::Unauthorized));
        check(&["--token-file", &file("mine")], Ok("abc"));
        check(&["--token-file", &file("mine"), "--token", "xyz"], Ok("xyz"));
        check(&["--token", " "], Err(Code::Unauthorized));
    }

    #[test]
    fn what_belongs_to_another_server_is_refused() {
        let check = |line: &[&str], fine: bool| {
            let read = settings(&[&["--data-dir", "/d"], line].concat());
            assert_eq!(
                read.map_err(|failure| failure.code).err(),
                (!fine).then_some(Code::Usage),
                "{line:?}"
            );
        };
        check(&["--context", "c", "--service-account", "a"], true);
        check(&["--kubeconfig", "k"], true);
        check(&["--server", "https://a.example", "--ca", "f"], true);
        check(&["--service-account", "a"], false);
        check(&["--ca", "f"], false);
        check(&["--context", "c", "--ca", "f"], false);
    }

    #[test]
    fn what_is_about_this_machine_takes_no_other() {
        let check = |line: &[&str], expected: Option<&str>| {
            let refused = settings(&[&["--data-dir", "/d"], line].concat()).unwrap().only_here("up").err();
            let named = refused.map(|failure| failure.to_string());
            let right = |part: &str| named.as_ref().is_some_and(|said| said.contains(part));
            assert!(expected.map_or(named.is_none(), right), "{line:?}: {named:?}");
        };
        check(&[], None);
        check(&["--context", "c"], Some("VTEAM_CONTEXT"));
        check(&["--kubeconfig", "k"], Some("--kubeconfig"));
        check(&["--server", "http://127.0.0.1:1"], None);
    }

    #[test]
    fn what_was_named_is_named_again() {
        let check = |line: &[&str], expected: &str| {
            assert_eq!(
                settings(&[&["--data-dir", "/d"], line].concat()).unwrap().flags,
                expected,
                "{line:?}"
            );
        };
        check(&[], " --data-dir /d");
        check(&["--token", "secret", "--json"], " --data-dir /d");
        check(
            &["--context", "it's mine", "-p", "demo", "--service-account", "a"],
            r" --data-dir /d --context 'it'\''s mine' --service-account a --project demo",
        );
        check(
            &["--context", "c", "--system-namespace", "other"],
            " --data-dir /d --context c --system-namespace other",
        );
        check(
            &["--server", "https://a.example", "--ca", "/f"],
            " --data-dir /d --server https://a.example --ca /f",
        );
    }

    #[test]
    fn a_token_never_leaves_unprotected() {
        let check = |url: &str, fine: bool| assert_eq!(check_server(url).is_ok(), fine, "{url}");
        check("http://127.0.0.1:7878", true);
        check("http://[::1]:7878", true);
        check("http://localhost:1", true);
        check("https://vteam.example.com", true);
        check("http://vteam.example.com", false);
        check("http://127.0.0.1.example.com", false);
        check("ftp://x", false);
        check("x", false);
    }
}
