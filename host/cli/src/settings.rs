//! What the command was told, checked, from flags and the environment. Nothing else reads the environment.

use crate::{
    args::{Global, ModelApi, ModelArgs},
    client::{Address, Client},
    exit::{Code, Failure, Outcome},
    output::Output,
};
use model::id::ProjectName;
use secrecy::SecretString;
use std::{
    io::ErrorKind,
    net::IpAddr,
    path::{Path, PathBuf},
};

/// In the data folder.
const TOKEN: &str = "token";

#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    /// Somebody else's server; `None`: the one of the data folder.
    pub(crate) server: Option<String>,
    pub(crate) token_file: PathBuf,
    pub(crate) project: ProjectName,
    pub(crate) output: Output,
    pub(crate) log: Option<String>,
    /// Where `vteam-runner` and its siblings are.
    pub(crate) bin_dir: PathBuf,
    /// First-party plugins.
    pub(crate) plugins_dir: PathBuf,
}

impl Settings {
    pub(crate) fn read(global: Global) -> Outcome<Self> {
        let Global { data_dir, server, token_file, project, json, log } = global;
        let data_dir = absolute(&data_dir.map_or_else(default_data_dir, Ok)?)?;
        if let Some(url) = &server {
            check_server(url)?;
        }
        let bin_dir = variable("VTEAM_BIN_DIR").map_or_else(beside_us, Ok)?;
        let plugins_dir = variable("VTEAM_PLUGINS_DIR").unwrap_or_else(|| plugins_beside(&bin_dir));
        Ok(Self {
            token_file: token_file.map_or_else(|| Ok(data_dir.join(TOKEN)), |file| absolute(&file))?,
            data_dir,
            server,
            project,
            output: Output::new(json, colours_wanted()),
            log,
            bin_dir,
            plugins_dir,
        })
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.data_dir.join("run/api.sock")
    }

    /// A client of the server that was named, or of this machine's.
    pub(crate) fn client(&self) -> Outcome<Client> {
        let address = match &self.server {
            Some(url) => Address::Url(url.clone()),
            None => Address::Socket(self.socket()),
        };
        Client::new(address, self.token()?, self.project.clone())
    }

    fn token(&self) -> Outcome<String> {
        let file = &self.token_file;
        let text = std::fs::read_to_string(file).map_err(|e| match e.kind() {
            // The one that a server of this machine makes: none has run.
            ErrorKind::NotFound if self.server.is_none() && *file == self.data_dir.join(TOKEN) => {
                let text = "no server has run here yet; start one with: vteam up";
                Failure::new(Code::Unreachable, format!("there is no token at {}: {text}", file.display()))
            }
            ErrorKind::NotFound => {
                let text = "give --token-file the file that `vteam up` names";
                Failure::new(Code::Unauthorized, format!("there is no token at {}: {text}", file.display()))
            }
            _ => Failure::of(Code::Unauthorized, &format!("cannot read the token {}", file.display()), &e),
        })?;
        let token = text.trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Failure::new(Code::Unauthorized, format!("{} holds no token", file.display())));
        }
        Ok(token.to_owned())
    }
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

    #[test]
    fn a_token_that_is_not_there_is_missing_or_nobody_has_run() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        std::fs::write(file("empty"), "\n").unwrap();
        std::fs::write(file("mine"), "abc\n").unwrap();
        let check = |given: Option<&str>, server: Option<&str>, expected: Result<&str, Code>| {
            let settings = Settings {
                data_dir: dir.path().to_owned(),
                server: server.map(str::to_owned),
                token_file: file(given.unwrap_or(TOKEN)),
                project: "default".parse().unwrap(),
                output: Output::new(false, false),
                log: None,
                bin_dir: PathBuf::new(),
                plugins_dir: PathBuf::new(),
            };
            let token = settings.token();
            assert_eq!(token.as_deref().map_err(|failure| failure.code), expected, "{given:?} {server:?}");
        };
        check(None, None, Err(Code::Unreachable));
        check(None, Some("http://127.0.0.1:1"), Err(Code::Unauthorized));
        check(Some("none"), None, Err(Code::Unauthorized));
        check(Some("empty"), None, Err(Code::Unauthorized));
        check(Some("mine"), None, Ok("abc"));
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
