//! People and accounts in a namespace, and what they are refused.

use crate::server::{Answer, Namespace, cluster};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Policies and roles take effect a moment after they were written.
const DEADLINE: Duration = Duration::from_secs(15);
const OPERATOR: &str = "system:serviceaccount:vteam-system:vteam-operator";

/// A namespace with people of each role in it.
pub(crate) struct Project(Namespace);

/// Somebody, in a project.
pub(crate) struct Person<'a> {
    namespace: &'a Namespace,
    flags: Vec<String>,
}

impl Project {
    /// `viewer`, `editor` and `admin` have our roles; `tenant` has what the built-in `edit` is made of, and `lord` may do
    /// everything in the namespace.
    pub(crate) fn new(name: &str) -> Self {
        let namespace = cluster().namespace(name);
        let project = Self(namespace);
        let everything = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "everything"},
            "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
        project.make(&everything);
        for (person, kind, role) in [
            ("viewer", "ClusterRole", "vteam-view"),
            ("editor", "ClusterRole", "vteam-edit"),
            ("admin", "ClusterRole", "vteam-admin"),
            // A controller puts these together as `edit`; there is none here.
            ("tenant", "ClusterRole", "system:aggregate-to-edit"),
            ("tenant", "ClusterRole", "system:aggregate-to-view"),
            ("lord", "Role", "everything"),
        ] {
            project.bind(person, kind, role);
        }
        project.make(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}));
        let label =
            ["label", "--overwrite", "namespace", project.namespace(), "vteam.ambient-code/project=true"];
        project.root().may(&label, &Value::Null);
        project.operator().creates(&Self::runners_account());
        project
    }

    /// As the operator makes it.
    pub(crate) fn runners_account() -> Value {
        let owner = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "name": "agenticsessions.vteam.ambient-code", "uid": "u"});
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "automountServiceAccountToken": false,
            "metadata": {"name": "vteam-runner", "ownerReferences": [owner]}})
    }

    fn make(&self, object: &Value) {
        let answer = self.0.apply(object);
        assert!(answer.good, "{object}: {answer:?}");
    }

    pub(crate) fn bind(&self, person: &str, kind: &str, role: &str) {
        self.make(&json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": format!("{person}-{}", role.replace(':', "-"))},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
            "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": person}]}));
    }

    pub(crate) fn person(&self, name: &str) -> Person<'_> {
        Person { namespace: &self.0, flags: vec![format!("--as={name}")] }
    }

    /// Of the cluster's own.
    pub(crate) fn member(&self, name: &str, group: &str) -> Person<'_> {
        let mut member = self.person(name);
        member.flags.push(format!("--as-group={group}"));
        member
    }

    pub(crate) fn operator(&self) -> Person<'_> {
        self.person(OPERATOR)
    }

    /// Whoever may do everything on the cluster.
    pub(crate) fn root(&self) -> Person<'_> {
        Person { namespace: &self.0, flags: vec![] }
    }

    pub(crate) fn namespace(&self) -> &str {
        self.0.name()
    }
}

impl Person<'_> {
    pub(crate) fn kubectl(&self, args: &[&str], input: &Value) -> Answer {
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        let input = if input.is_null() { String::new() } else { input.to_string() };
        self.namespace.with_input(&[&flags[..], args].concat(), &input)
    }

    pub(crate) fn may(&self, args: &[&str], input: &Value) {
        self.until(args, input, |answer| answer.good);
    }

    pub(crate) fn creates(&self, object: &Value) {
        self.may(&["create", "-f", "-"], object);
    }

    pub(crate) fn may_not_create(&self, object: &Value, policy: &str, message: &str) {
        self.may_not(&["create", "-f", "-"], object, policy, message);
    }

    /// It is refused by this policy, with these words. Until the policy is in force, it is only tried.
    pub(crate) fn may_not(&self, args: &[&str], input: &Value, policy: &str, message: &str) {
        let verbs = ["create", "patch", "label", "annotate", "delete"];
        let changes = verbs.contains(&args[0]) && args[1] != "token" && !args[1].starts_with("--raw");
        let tried = if changes { [args, &["--dry-run=server"]].concat() } else { args.to_vec() };
        let said = format!("ValidatingAdmissionPolicy '{policy}'");
        let refused =
            |answer: &Answer| !answer.good && answer.err.contains(&said) && answer.err.contains(message);
        self.until(&tried, input, refused);
        let answer = self.kubectl(args, input);
        assert!(refused(&answer), "{:?} {args:?} {input}: {answer:?}", self.flags);
    }

    /// What was bound or written a moment ago may not be known yet.
    pub(crate) fn until(&self, args: &[&str], input: &Value, right: impl Fn(&Answer) -> bool) {
        let begun = Instant::now();
        loop {
            let answer = self.kubectl(args, input);
            if right(&answer) {
                return;
            }
            assert!(begun.elapsed() < DEADLINE, "{:?} {args:?} {input}: {answer:?}", self.flags);
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}
