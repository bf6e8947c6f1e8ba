use crate::built;

#[tokio::test]
async fn the_table_names_every_tool() {
    let packages = ["tool-files", "tool-search", "tool-shell", "tool-web", "tool-session"];
    let (mut manifests, mut sizes) = (Vec::new(), Vec::new());
    for package in packages {
        let (plugin, bytes) = tokio::task::spawn_blocking(move || built::tool(package)).await.unwrap();
        manifests.push(plugin.manifest().clone());
        sizes.push((package, bytes));
    }
    let docs = author::docs(&manifests);
    let expected = [
        "Read",
        "Write",
        "Edit",
        "MultiEdit",
        "LS",
        "Glob",
        "Grep",
        "Bash",
        "BashOutput",
        "KillShell",
        "WebFetch",
        "TodoWrite",
        "AskUserQuestion",
    ];
    for tool in expected {
        assert!(
            docs.contains(&format!("\n## {tool}\n")) && docs.contains(&format!("| [`{tool}`](#")),
            "{tool}"
        );
    }
    assert!(
        docs.contains("| `file_path` | string | yes |") && docs.contains("| `-A` | integer | no |"),
        "{docs}"
    );
    for (package, bytes) in sizes {
        assert!(bytes < 2 * built::CONFIG_MAP_BYTES, "{package} has {bytes} bytes");
    }
}
