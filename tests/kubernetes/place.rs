//! What a session asks of its node and of its volume, decided by the real scheduler, kubelet and provisioner.

use crate::{
    life::because,
    world::{Project, apply, eventually, kubectl},
};
use anyhow::Context as _;
use serde_json::{Value, json};

fn node() -> anyhow::Result<String> {
    kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"])
}

/// A node with a GPU, an extended resource that no device plugin serves; dropped, it has none. Nothing of another run has
/// its name.
struct Fitted {
    node: String,
    gpu: String,
}

impl Fitted {
    fn new(gpu: &str) -> anyhow::Result<Self> {
        let fitted = Self { node: node()?, gpu: gpu.to_owned() };
        fitted.says(&json!("1"))?;
        fitted.is_labelled(&[&format!("{gpu}.product=T1000"), &format!("{gpu}.memory=24576")])?;
        Ok(fitted)
    }

    /// `null`: nothing.
    fn says(&self, amount: &Value) -> anyhow::Result<()> {
        let amounts = json!({&self.gpu: amount});
        let patch = json!({"status": {"capacity": amounts, "allocatable": amounts}}).to_string();
        let args = ["patch", "node", &self.node, "--subresource=status", "--type=merge", "-p", &patch];
        kubectl(&args).map(drop)
    }

    fn is_labelled(&self, labels: &[&str]) -> anyhow::Result<()> {
        let args = [&["label", "--overwrite", "node", &self.node], labels].concat();
        kubectl(&args).map(drop)
    }
}

impl Drop for Fitted {
    fn drop(&mut self) {
        let labels = [format!("{}.product-", self.gpu), format!("{}.memory-", self.gpu)];
        let unlabelled = self.is_labelled(&labels.each_ref().map(String::as_str));
        for undone in [unlabelled, self.says(&Value::Null)] {
            if let Err(error) = undone {
                eprintln!("{error:#}");
            }
        }
    }
}

#[tokio::test]
async fn a_gpu_goes_to_one_session_at_a_time() -> anyhow::Result<()> {
    let project = Project::new("gpu")?;
    let gpu = &format!("{}.example/gpu", project.name);
    let asks = |product: &str, memory: &str| {
        let asked = json!({"count": 1, "resource": gpu, "product": product, "memory": memory});
        json!({"prompt": "Greet me.", "resources": {"gpu": asked}})
    };
    project.session("first", asks("T1000", "24Gi"))?;
    because(&project, "first", &["Unschedulable"]).await?;
    let _fitted = Fitted::new(gpu)?;
    let object = because(&project, "first", &["ApprovalPending"]).await?;
    let pod = object["status"]["podName"].as_str().context("no pod")?;
    let pod = project.get("pod", pod)?;
    let has = |container: usize| pod["spec"]["containers"][container]["resources"]["limits"][gpu].clone();
    assert_eq!((has(0), has(1)), (Value::Null, json!("1")), "native programs have it, and nobody else");
    // Others ask for what is taken, for more memory than there is, and for another product.
    project.session("second", asks("T1000", "8Gi"))?;
    project.session("larger", asks("T1000", "25Gi"))?;
    project.session("other", asks("T2000", "8Gi"))?;
    for session in ["second", "larger", "other"] {
        because(&project, session, &["Unschedulable"]).await?;
    }
    kubectl(&["-n", &project.name, "delete", "agenticsession", "first"])?;
    because(&project, "second", &["ApprovalPending"]).await?;
    for session in ["larger", "other"] {
        let object = project.get("agenticsession", session)?;
        assert_eq!(object["status"]["reason"], "Unschedulable", "{session}: {object}");
    }
    Ok(())
}

/// Objects of no namespace; dropped, they are gone.
struct Classes<'a>(&'a str);

impl Classes<'_> {
    fn new(name: &str) -> anyhow::Result<Classes<'_>> {
        let classes = Classes(name);
        apply(&json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": name}, "value": 4321, "preemptionPolicy": "Never"}))?;
        let known: Value = serde_json::from_str(&kubectl(&["get", "storageclass", "-o", "json"])?)?;
        let default = |class: &&Value| {
            class["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true"
        };
        let known = known["items"].as_array().and_then(|all| all.iter().find(default));
        let mut class = known.context("no StorageClass is the default")?.clone();
        class["metadata"] = json!({"name": name});
        apply(&class)?;
        Ok(classes)
    }
}

impl Drop for Classes<'_> {
    fn drop(&mut self) {
        if let Err(error) = kubectl(&["delete", "priorityclass,storageclass", self.0]) {
            eprintln!("{error:#}");
        }
    }
}

#[tokio::test]
async fn classes_and_a_node_are_what_was_asked_for() -> anyhow::Result<()> {
    let project = Project::new("classes")?;
    let classes = Classes::new(&project.name)?;
    let node = node()?;
    let host =
        kubectl(&["get", "node", &node, "-o", r"jsonpath={.metadata.labels.kubernetes\.io/hostname}"])?;
    let spec = json!({
        "prompt": "Greet me.",
        "workspace": {"persistent": true},
        "resourceOverrides": {"priorityClass": classes.0, "storageClass": classes.0, "cpu": "300m"},
        "resources": {"memory": "192Mi", "storage": "64Mi", "nodeSelector": {"kubernetes.io/hostname": host}},
    });
    project.session("s", spec)?;
    let object = because(&project, "s", &["ApprovalPending"]).await?;
    let pod = object["status"]["podName"].as_str().context("no pod")?;
    let spec = &project.get("pod", pod)?["spec"];
    assert_eq!((&spec["priority"], &spec["nodeName"]), (&json!(4321), &json!(node)));
    let resources = &spec["containers"][1]["resources"];
    // More of the processor than that is anybody's who asks; of memory it is the bound.
    assert_eq!(
        (&resources["requests"]["cpu"], &resources["limits"]["memory"]),
        (&json!("300m"), &json!("192Mi"))
    );
    let claims = project.list("persistentvolumeclaims")?;
    let claim = claims.first().context("no claim")?;
    assert_eq!(
        (&claim["spec"]["storageClassName"], &claim["status"]["phase"]),
        (&json!(classes.0), &json!("Bound"))
    );
    // With as much again for what the runner compares with, and 256 MiB for its journal.
    let bytes = ((64 * 2 + 256) << 20).to_string();
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], bytes);
    kubectl(&["-n", &project.name, "delete", "agenticsession", "s"])?;
    eventually("its volume is gone", || Ok(project.list("persistentvolumeclaims")?.is_empty().then_some(())))
        .await
}
