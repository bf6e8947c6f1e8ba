//! Whether an effect of a call runs, waits for a person, or is refused.
//!
//! Invariant: an approval for once lets exactly the subject through that was shown, once; any other effect of that call
//! that would have to be asked for is refused.

use engine::{Gate, Verdict, async_trait};
use model::{
    approval::{Subject, session_key},
    grant::{self, PermissionMode, effects},
    id::{Digest, Effect, PluginId},
};
use protocol::control::SessionPolicy;
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

/// What holds for the whole session.
pub struct Permissions {
    pub mode: PermissionMode,
    pub policy: SessionPolicy,
    /// [`session_key`]s that a person approved.
    pub approved: Mutex<HashSet<String>>,
}

/// The gate of one call.
pub struct CallGate {
    permissions: Arc<Permissions>,
    plugin: PluginId,
    once: Mutex<Once>,
}

/// What a person let through once.
enum Once {
    Nothing,
    This { effect: Effect, subject: Digest },
    Spent,
}

impl Permissions {
    pub fn approve(&self, plugin: &PluginId, subject: &Subject) {
        let key = session_key(plugin, subject);
        self.approved.lock().unwrap_or_else(PoisonError::into_inner).extend(key);
    }

    fn is_approved(&self, plugin: &PluginId, subject: &Subject) -> bool {
        let approved = self.approved.lock().unwrap_or_else(PoisonError::into_inner);
        session_key(plugin, subject).is_some_and(|key| approved.contains(&key))
    }

    /// Whether policy names the host: `host` for the scheme's own port, `host:port` for any.
    fn names_host(&self, effect: &Effect, subject: &Subject) -> bool {
        let Subject::Fetch { url, .. } = subject else { return false };
        let Some((scheme, rest)) = url.raw().split_once("://") else { return false };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default().to_ascii_lowercase();
        let own_port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
        let host = authority.strip_suffix(own_port).unwrap_or(&authority);
        effect.as_str() == effects::NET_FETCH
            && !authority.contains('@')
            && self.policy.fetch_hosts.iter().any(|named| {
                let named = named.to_ascii_lowercase();
                named == host || named == authority || named == format!("{host}{own_port}")
            })
    }
}

impl CallGate {
    #[must_use]
    pub fn new(permissions: Arc<Permissions>, plugin: PluginId) -> Self {
        Self { permissions, plugin, once: Mutex::new(Once::Nothing) }
    }

    /// A person approved this for once.
    pub fn let_through(&self, effect: Effect, subject: &Subject) {
        *self.once.lock().unwrap_or_else(PoisonError::into_inner) =
            Once::This { effect, subject: subject.digest() };
    }

    #[must_use]
    pub fn verdict(&self, effect: &Effect, subject: &Subject) -> Verdict {
        match grant::decide(self.permissions.mode, effect) {
            grant::Verdict::Allow => Verdict::Allow,
            grant::Verdict::Refuse => Verdict::Refuse(format!(
                "{effect} is refused: this session only reads (permission mode plan)"
            )),
            grant::Verdict::Ask if self.permissions.names_host(effect, subject) => Verdict::Allow,
            grant::Verdict::Ask if self.permissions.is_approved(&self.plugin, subject) => Verdict::Allow,
            grant::Verdict::Ask => self.verdict_of_person(effect, subject),
        }
    }

    fn verdict_of_person(&self, effect: &Effect, subject: &Subject) -> Verdict {
        let mut once = self.once.lock().unwrap_or_else(PoisonError::into_inner);
        match &*once {
            Once::Nothing => Verdict::Ask,
            Once::This { effect: approved, subject: shown }
                if approved == effect && *shown == subject.digest() =>
            {
                *once = Once::Spent;
                Verdict::Allow
            }
            Once::This { .. } | Once::Spent => Verdict::Refuse(format!(
                "{effect} is refused: only what was shown was approved, and for once. Make a call of its own for it."
            )),
        }
    }
}

#[async_trait]
impl Gate for CallGate {
    async fn check(&self, effect: &Effect, subject: &Subject) -> Verdict {
        self.verdict(effect, subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permissions(mode: PermissionMode) -> Arc<Permissions> {
        let policy = SessionPolicy {
            fetch_hosts: vec!["docs.rs".into(), "localhost:8080".into()],
            process_network: protocol::exec::Network::None,
            revoked: vec![],
        };
        Arc::new(Permissions { mode, policy, approved: Mutex::default() })
    }

    fn effect(name: &str) -> Effect {
        name.parse().unwrap()
    }

    fn fetch(url: &str) -> Subject {
        Subject::Fetch { method: "GET".into(), url: url.into() }
    }

    fn gate(permissions: &Arc<Permissions>) -> CallGate {
        CallGate::new(permissions.clone(), "vteam.web".parse().unwrap())
    }

    #[test]
    fn hosts_are_exact() {
        let check = |url: &str, expected: &Verdict| {
            let permissions = permissions(PermissionMode::Default);
            assert_eq!(gate(&permissions).verdict(&effect("net.fetch"), &fetch(url)), *expected, "{url}");
        };
        check("https://docs.rs/x", &Verdict::Allow);
        check("https://DOCS.rs:443/x", &Verdict::Allow);
        check("http://localhost:8080/", &Verdict::Allow);
        check("https://docs.rs:8443/", &Verdict::Ask);
        check("https://docs.rs@evil.example/", &Verdict::Ask);
        check("https://evil.example/docs.rs", &Verdict::Ask);
        check("https://docs.rs.evil.example/", &Verdict::Ask);
        check("http://localhost/", &Verdict::Ask);
    }

    #[test]
    fn once_is_exactly_this_and_once() {
        let permissions = permissions(PermissionMode::Default);
        let gate = gate(&permissions);
        let (this, other) = (fetch("https://a.example/1"), fetch("https://a.example/2"));
        assert_eq!(gate.verdict(&effect("net.fetch"), &this), Verdict::Ask);
        gate.let_through(effect("net.fetch"), &this);
        assert!(matches!(gate.verdict(&effect("net.fetch"), &other), Verdict::Refuse(_)));
        assert_eq!(gate.verdict(&effect("net.fetch"), &this), Verdict::Allow);
        assert!(matches!(gate.verdict(&effect("net.fetch"), &this), Verdict::Refuse(_)));
    }

    #[test]
    fn an_approval_for_the_session_holds_for_its_plugin() {
        let permissions = permissions(PermissionMode::Default);
        permissions.approve(&"vteam.web".parse().unwrap(), &fetch("https://a.example/1"));
        assert_eq!(
            gate(&permissions).verdict(&effect("net.fetch"), &fetch("https://a.example/2")),
            Verdict::Allow
        );
        let other = CallGate::new(permissions, "acme.web".parse().unwrap());
        assert_eq!(other.verdict(&effect("net.fetch"), &fetch("https://a.example/2")), Verdict::Ask);
    }

    #[test]
    fn plan_refuses() {
        let verdict = gate(&permissions(PermissionMode::Plan)).verdict(&effect("fs.write"), &fetch("x"));
        assert!(matches!(verdict, Verdict::Refuse(why) if why.contains("plan")));
    }
}
