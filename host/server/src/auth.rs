//! Who calls the API: bearer tokens, compared in constant time, and who they stand for.
//!
//! A runner's token is none of these: it is the gateway's, on another socket.

use crate::{
    access::{Access, Callers},
    problem::Problem,
    sessions::Caller,
};
use axum::http::{HeaderMap, header::AUTHORIZATION};
use futures::future::BoxFuture;
use rand::TryRngCore as _;
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    future::ready,
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// The token of the one local user. Only its digest is kept.
#[derive(Clone)]
pub struct Token {
    digest: [u8; 32],
    name: String,
}

#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("cannot read or write the token file {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the token file {} is readable by others: run `chmod 600` on it", path.display())]
    Exposed { path: PathBuf },
    #[error("the token file {} holds no token: delete it and start again", path.display())]
    Empty { path: PathBuf },
    #[error("the system gives no random bytes")]
    Random(#[source] rand::rand_core::OsError),
}

impl Token {
    /// Reads the token file, or makes it (mode 0600) with a new random token.
    ///
    /// # Errors
    /// When the file cannot be read or made, others may read it, or it is empty.
    pub fn open(path: &Path, name: &str) -> Result<Self, TokenError> {
        let io = |source| TokenError::Io { path: path.to_owned(), source };
        let text = match fs::File::open(path) {
            Ok(file) => {
                if file.metadata().map_err(io)?.permissions().mode() & 0o077 != 0 {
                    return Err(TokenError::Exposed { path: path.to_owned() });
                }
                let mut text = String::new();
                file.take(4096).read_to_string(&mut text).map_err(io)?;
                text
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let text = random()?;
                let mut file =
                    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
                file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
                text
            }
            Err(error) => return Err(io(error)),
        };
        match text.trim() {
            "" => Err(TokenError::Empty { path: path.to_owned() }),
            token => Ok(Self { digest: Sha256::digest(token).into(), name: name.to_owned() }),
        }
    }

    /// Who sent these headers, if the token is right.
    fn holder(&self, headers: &HeaderMap) -> Option<Caller> {
        let digest: [u8; 32] = Sha256::digest(bearer(headers)?).into();
        let same = digest.iter().zip(self.digest).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0;
        same.then(|| Caller { name: self.name.as_str().into(), credential: None })
    }
}

/// Whoever holds the token may do everything.
impl Callers for Token {
    fn identify<'a>(&'a self, headers: &'a HeaderMap) -> BoxFuture<'a, Result<Caller, Problem>> {
        let refused = || {
            Problem::unauthorized(
                "send `Authorization: Bearer <token>`; `vteam up` says where the token lies",
            )
        };
        Box::pin(ready(self.holder(headers).ok_or_else(refused)))
    }

    fn permit<'a>(&'a self, _caller: &'a Caller, _access: Access) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(ready(Ok(())))
    }
}

/// The one bearer token among these headers.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn random() -> Result<String, TokenError> {
    let mut bytes = [0; 32];
    rand::rngs::OsRng.try_fill_bytes(&mut bytes).map_err(TokenError::Random)?;
    Ok(format!("vteam_{}", hex::encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(token: &Token, headers: &[&str], known: bool) {
        let mut map = HeaderMap::new();
        for value in headers {
            map.append(AUTHORIZATION, value.parse().unwrap());
        }
        assert_eq!(token.holder(&map).is_some(), known, "{headers:?}");
    }

    #[test]
    fn only_the_token_of_the_file_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let token = Token::open(&path, "me").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        check(&token, &[&format!("Bearer {text}")], true);
        check(&Token::open(&path, "me").unwrap(), &[&format!("bearer {text}")], true);
        check(&token, &[], false);
        check(&token, &["Bearer "], false);
        check(&token, &[&format!("Basic {text}")], false);
        check(&token, &[&format!("Bearer {text}x")], false);
        check(&token, &[&format!("Bearer {text}"), "Bearer x"], false);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Token::open(&path, "me"), Err(TokenError::Exposed { .. })));
    }
}
